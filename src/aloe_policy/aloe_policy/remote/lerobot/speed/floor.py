"""The least time a chunk can take: its arithmetic, and reading its weights, at the rates the device shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aloe_policy.remote.lerobot.fast.network import Network, Seen, Stack
from aloe_policy.remote.lerobot.speed.timing import median_ms

FORMULA = (
    "floor = sum over vision, language and each flow step of max(operations / rate, bytes of weights / bandwidth); "
    "operations = 2 x weights x tokens + 4 x heads x head width x asking x asked tokens a layer; 2 bytes a weight; "
    "language without what the flow does not need of its last layer; no activations, norms or embeddings"
)


@dataclass(frozen=True)
class Rates:
    """What a device does in one second, measured."""

    operations: float  # of a product of matrices in bfloat16
    bytes_read: float  # of a copy, read and written together


def measured_rates(device: str) -> Rates:
    """Multiply 8192 x 8192 bfloat16 matrices, and copy 2 GiB."""
    side, size = 8192, 2**31
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(size, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    product = median_ms(lambda: torch.mm(a, b), device, 10).gpu
    copy = median_ms(lambda: target.copy_(source), device, 10).gpu
    assert product is not None and copy is not None, "of a GPU"
    return Rates(2 * side**3 / product * 1e3, 2 * size / copy * 1e3)


@dataclass(frozen=True)
class Work:
    """Operations of one pass, and weights it reads."""

    operations: float
    weights: int
    passes: int = 1

    def seconds(self, rates: Rates) -> float:
        return self.passes * max(self.operations / rates.operations, 2 * self.weights / rates.bytes_read)


def floor_ms(network: Network, seen: Seen, n: int, rates: Rates) -> float:
    """Return milliseconds of n chunks of an observation."""
    return 1e3 * sum(work.seconds(rates) for work in works(network, seen, n))


def works(network: Network, observed: Seen, n: int) -> list[Work]:
    """Return the passes of n chunks: vision, language, flow."""
    vision, cameras, seen = network.vision, len(observed.cameras), len(observed.there)
    matrices = [each[0] for layer in vision.layers for each in (layer.qkv, layer.out, layer.fc1, layer.fc2)]
    weights = sum(each.numel() for each in matrices)
    scores = 4.0 * cameras * vision.patches**2 * vision.heads.queries * vision.heads.width * len(vision.layers)
    looking = Work(2 * weights * cameras * vision.patches + scores, weights)
    tokens = len(network.own_bias)
    flow_weights = _weights(network.expert)
    flow = _attention(network.expert, tokens, seen + tokens) + 2 * flow_weights * tokens
    return [looking, _language(network.prefix, seen), Work(n * flow, flow_weights, len(network.steps))]


def _language(stack: Stack, seen: int) -> Work:
    last = stack.layers[-1]
    keys = 2 * stack.heads.keys * stack.heads.width * last.qkv.shape[1]
    weights = _weights(stack) - sum(each.numel() for each in last) + keys
    before = len(stack.layers) - 1
    return Work(2 * weights * seen + _attention(stack, seen, seen) * before / len(stack.layers), weights)


def _weights(stack: Stack) -> int:
    matrices: list[Tensor] = [each for layer in stack.layers for each in layer]
    return sum(each.numel() for each in matrices)


def _attention(stack: Stack, asking: int, asked: int) -> float:
    return 4.0 * asking * asked * stack.heads.queries * stack.heads.width * len(stack.layers)

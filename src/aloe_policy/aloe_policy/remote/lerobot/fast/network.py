"""What the VLAs share: one observation is encoded, then n chunks flow from noise to actions, attending to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aloe_policy.remote.lerobot.fast.blocks import (
    Heads,
    Layer,
    Norm,
    crossed_layer,
    flow_layer,
    hidden,
    moved,
    normed,
    prefix_keys,
    prefix_layer,
    rotations,
)
from aloe_policy.remote.lerobot.fast.vision import VisionTower

Norms = tuple[Norm, Norm]
Keys = Tensor  # and values, of a layer [2, 1, Hkv, S, D]
Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


class Stack(NamedTuple):
    """Layers in order, with the constants and rotary frequencies [D / 2] they share."""

    layers: list[Layer]
    heads: Heads
    frequencies: Tensor


class Step(NamedTuple):
    """Constants of one step of the flow: norms of each layer and after the last, what is added to embedded actions."""

    norms: list[Norms]
    last: Norm
    bias: Tensor | None


class Seen(NamedTuple):
    """An observation as tokens."""

    tokens: Tensor  # [1, S, W]
    there: Tensor  # [S] bool: false for padding
    bias: Tensor  # [1 or S, S] added to scores among them
    words: slice
    cameras: list[slice]


class Network(ABC):
    """One observation and noise [n, H, A] -> n chunks [n, H, A], and features if asked; nothing waits for the host.

    A type fills in the attributes and the two methods below.
    """

    vision: VisionTower
    prefix: Stack
    prefix_norms: list[Norms]
    prefix_last: Norm
    expert: Stack
    crossed: frozenset[int]  # layers of the expert that attend to the observation alone
    steps: Sequence[Step]
    out: tuple[Tensor, Tensor | None]  # projection to actions
    own_bias: Tensor  # [T, T] added to scores among the tokens of a chunk

    def __init__(self, dtype: torch.dtype, compiled: Compile) -> None:
        self.dtype = dtype
        self._prefix_layer, self._prefix_keys = compiled(prefix_layer), compiled(prefix_keys)
        self._flow_layer, self._crossed_layer = compiled(flow_layer), compiled(crossed_layer)
        self._moved = compiled(moved)

    @abstractmethod
    def inputs(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return what `seen` takes, of a batch of one that LeRobot's preprocessor gives; shapes do not change."""

    @abstractmethod
    def seen(self, **inputs: Tensor) -> Seen:
        """Return the observation as tokens."""

    @abstractmethod
    def begun(self, chunks: Tensor, step: Step, inputs: dict[str, Tensor]) -> Tensor:
        """Return the tokens of chunks [n, T, W] at a step of the flow; the last H are the actions."""

    def across(self, cache: list[Keys]) -> list[Keys]:
        """Return what each layer of the expert attends to; those that are crossed may project it."""
        return cache

    @torch.no_grad()
    def __call__(self, noise: Tensor, features: bool, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        seen = self.seen(**inputs)
        cache, found = self.encoded(seen, features)
        chunks = self._flowed(noise, seen, self.across(cache), inputs)
        return chunks, found

    def encoded(self, seen: Seen, features: bool) -> tuple[list[Keys], Tensor | None]:
        """Return keys and values of every layer, and features [1, Z] if asked; else the last layer ends early."""
        stack, x, cache = self.prefix, seen.tokens, []
        cos, sin = rotations(seen.there.cumsum(0) - 1, stack.frequencies)
        for layer, norms in zip(stack.layers, self.prefix_norms, strict=True):
            if layer is stack.layers[-1] and not features:
                cache.append(self._prefix_keys(x, layer, norms, stack.heads, cos, sin))
                return cache, None
            x, keys = self._prefix_layer(x, layer, norms, stack.heads, cos, sin, seen.bias)
            cache.append(keys)
        output = normed(x, self.prefix_last, stack.heads.eps).float()
        said = seen.there[seen.words]
        words = (output[:, seen.words] * said[:, None]).sum(1) / said.sum().clamp_min(1)
        return cache, torch.cat([*(output[:, camera].mean(1) for camera in seen.cameras), words], 1)

    def _flowed(self, noise: Tensor, seen: Seen, cache: list[Keys], inputs: dict[str, Tensor]) -> Tensor:
        heads, tokens = self.expert.heads, len(self.own_bias)
        own = torch.arange(tokens, device=noise.device)
        turned = rotations(seen.there.sum() + own, self.expert.frequencies)
        turned_alone = rotations(own, self.expert.frequencies)
        unseen = hidden(seen.there)[None]
        bias = torch.cat([unseen.expand(tokens, -1), self.own_bias], 1)
        chunks, change = noise, -1.0 / len(self.steps)
        for step in self.steps:
            x = self.begun(chunks, step, inputs).to(self.dtype)
            late, gate = torch.zeros_like(x), step.norms[-1][1].gate
            for number, (layer, norms) in enumerate(zip(self.expert.layers, step.norms, strict=True)):
                if number in self.crossed:
                    x, late = self._crossed_layer(
                        x, late, gate, layer, norms, heads, *turned_alone, unseen, cache[number]
                    )
                else:
                    x, late = self._flow_layer(x, late, gate, layer, norms, heads, *turned, bias, cache[number])
                gate = norms[1].gate
            parts = (each[:, -noise.shape[1] :] for each in (x, late))
            chunks = self._moved(chunks, *parts, gate, step.last, heads, self.out, change)
        return chunks


def causal(blocks: Sequence[int], device: torch.device) -> Tensor:
    """Return what is added to scores of tokens in blocks of these sizes, which see no later block [T, T]."""
    number = torch.tensor([block for block, size in enumerate(blocks) for _ in range(size)], device=device)
    return hidden(number[None] <= number[:, None])


@torch.no_grad()
def folded(first: torch.nn.Linear, second: torch.nn.Linear, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return W [out, A] and a b [steps, out] for each of times [steps, in], float32.

    second(concatenation of first(x) and a time) = W x + b: nothing but actions changes from one step to the next.
    """
    weight, bias = first.weight.detach().double(), first.bias.detach().double()
    mixed = second.weight.detach().double()
    of_actions, of_time = mixed[:, : len(weight)], mixed[:, len(weight) :]
    constant = of_actions @ bias + second.bias.detach().double()
    return (of_actions @ weight).float(), (times.double() @ of_time.T + constant).float()


def flow_times(steps: int, device: torch.device) -> Tensor:
    """Return the times of the steps [steps], float32, from noise at 1 down, as LeRobot's integrator takes them."""
    return torch.tensor([1.0 + step * (-1.0 / steps) for step in range(steps)], dtype=torch.float32, device=device)

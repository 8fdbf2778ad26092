"""FSDP2 for the time of one optimisation: weights, gradients and optimiser are split among the processes.

Between optimisations, when policies are sampled, compared and published, weights are whole on every process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from aloe_critic import distributed

AUTO = 100_000_000  # parameters from which `auto` shards: with their optimiser they take 1.6 GB
LAYER = 1_000_000  # parameters of a layer that is gathered by itself


def wanted(parallel: str, module: nn.Module) -> bool:
    """Return whether this module's optimisation is to be sharded: `parallel` is ddp, fsdp or auto."""
    if distributed.world()[1] == 1 or parallel == "ddp":
        return False
    return parallel == "fsdp" or sum(p.numel() for p in module.parameters()) >= AUTO


@contextmanager
def sharded(module: nn.Module, methods: Sequence[str], optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Shard `module` and the optimiser of its parameters while the context lasts.

    It may be used by its `methods` alone. All processes must come here, with equal weights.
    """
    plain = _Plain(module)
    device = next(module.parameters()).device.type
    mesh = init_device_mesh(device, (distributed.world()[1],))
    for layer in module.modules():
        if layer is not module and sum(p.numel() for p in layer.parameters(recurse=False)) >= LAYER:
            fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for method in methods:
        register_fsdp_forward_method(module, method)
    split = dict(module.named_parameters())
    _exchange(optimizer, [(p, split[name]) for name, p in plain.parameters.items()])
    for p in plain.parameters.values():
        p.data = torch.empty(0, dtype=p.dtype, device=p.device)
    try:
        yield
    finally:
        for name, p in plain.parameters.items():
            p.data = whole(split[name].data)
        _exchange(optimizer, [(split[name], p) for name, p in plain.parameters.items()])
        plain.restore()


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be split; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class _Plain:
    """What a module is made of before it is sharded: FSDP2 has no way back of its own."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = dict(module.named_parameters())
        self._kept = [(m, type(m), {k: _shallow(v) for k, v in vars(m).items()}) for m in module.modules()]

    def restore(self) -> None:
        for module, kind, attributes in self._kept:
            module.__class__ = kind
            vars(module).clear()
            vars(module).update(attributes)


def _shallow(value: Any) -> Any:
    return value.copy() if isinstance(value, dict) else value


def _exchange(optimizer: torch.optim.Optimizer, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Let the optimiser go on with the second of each pair where it had the first."""
    new = dict(pairs)
    for group in optimizer.param_groups:
        group["params"] = [new.get(p, p) for p in group["params"]]
    for old, p in pairs:
        if old in optimizer.state:
            slots = optimizer.state.pop(old)
            optimizer.state[p] = {name: _like(value, p) for name, value in slots.items()}


def _like(value: Any, p: Tensor) -> Any:
    """Split or gather a slot as its parameter is; a step count is neither."""
    if isinstance(value, DTensor):
        return whole(value)
    if isinstance(p, DTensor) and isinstance(value, Tensor) and value.shape == p.shape:
        return distribute_tensor(value, p.device_mesh, p.placements)
    return value

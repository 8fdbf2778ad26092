"""The state of a training run on disk: tensors as safetensors, the rest as JSON; written whole or not at all."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aloe_core.errors import AloeError
from aloe_critic.distributed import is_chief
from aloe_critic.sharding import whole

_OPTIMIZER, _RNG, _GPU_RNG = "optimizer/", "rng/torch", "rng/cuda"


def save(path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer | None, facts: Any) -> None:
    """Write weights, optimiser, the random states and `facts` (JSON) to `path` (.safetensors), atomically.

    Every process must call this: what is split among them is gathered, and the first one writes.
    """
    tensors = {f"{m}/{n}": whole(t) for m, module in modules.items() for n, t in module.state_dict().items()}
    groups: list[dict[str, Any]] = []
    if optimizer is not None:
        state = optimizer.state_dict()
        groups = [{k: v for k, v in group.items() if k != "params"} for group in state["param_groups"]]
        for index, slots in state["state"].items():
            tensors |= {f"{_OPTIMIZER}{index}/{slot}": whole(torch.as_tensor(value)) for slot, value in slots.items()}
    if not is_chief():
        return
    tensors[_RNG] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        tensors[_GPU_RNG] = torch.cuda.get_rng_state()
    header = {"facts": facts, "groups": groups, "numpy": _numpy_state(), "python": _python_state()}
    part = path.with_suffix(".partial")
    # Copies: safetensors refuses tensors that share memory.
    save_file({n: t.detach().cpu().clone() for n, t in tensors.items()}, part, {"aloe": json.dumps(header)})
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def restore(path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer | None) -> Any:
    """Put everything back as it was and return the facts; AloeError if the file is of another run."""
    tensors, header = _read(path)
    for name, module in modules.items():
        own = {n.removeprefix(f"{name}/"): t for n, t in tensors.items() if n.startswith(f"{name}/")}
        expected = {n: t.shape for n, t in module.state_dict().items()}
        if {n: t.shape for n, t in own.items()} != expected:
            raise AloeError(f"{path}: the saved {name} has other tensors than this run's; start the run anew.")
        module.load_state_dict(own)
    if optimizer is not None:
        _restore_optimizer(path, optimizer, tensors, header["groups"])
    torch.set_rng_state(tensors[_RNG])
    if _GPU_RNG in tensors and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(tensors[_GPU_RNG])
    kind, keys, position, has_gauss, gauss = header["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, gauss))
    version, state, gauss_next = header["python"]
    random.setstate((version, tuple(state), gauss_next))
    return header["facts"]


def facts(path: Path) -> Any:
    """Return the facts alone; AloeError if `path` is no saved state."""
    return _read(path)[1]["facts"]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), json.loads(metadata["aloe"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise AloeError(f"{path}: not a saved training state ({error}).") from error


def _restore_optimizer(
    path: Path, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    state = optimizer.state_dict()
    if len(groups) != len(state["param_groups"]):
        raise AloeError(f"{path}: the saved optimiser has {len(groups)} groups: expected {len(state['param_groups'])}.")
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_OPTIMIZER):
            index, slot = name.removeprefix(_OPTIMIZER).split("/")
            slots.setdefault(int(index), {})[slot] = tensor
    merged = [own | saved for own, saved in zip(state["param_groups"], groups, strict=True)]
    optimizer.load_state_dict({"state": slots, "param_groups": merged})


def _numpy_state() -> list[Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return [kind, np.asarray(keys).tolist(), position, has_gauss, gauss]


def _python_state() -> list[Any]:
    version, state, gauss_next = random.getstate()
    return [version, list(state), gauss_next]

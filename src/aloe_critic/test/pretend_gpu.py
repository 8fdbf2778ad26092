"""A GPU that is not there: tensors on it are kept and computed on the CPU, and do not mix with others.

What it shows is that everything is where it must be; on a real one the numbers differ in their last digits. It goes by
the name of the meta device, for without CUDA PyTorch has no other second one that autograd puts up with.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("meta")
ACROSS = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}  # what moves between devices


class OnGpu(torch.Tensor):
    """A tensor on it."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnGpu:
        shape = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.size(), **shape, device=DEVICE)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> OnGpu:
        copied = OnGpu(self.inner.clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied._is_param = True
        return memo.setdefault(id(self), copied)


class Gpu(TorchDispatchMode):
    """While it is entered, DEVICE is one."""

    def __enter__(self) -> Gpu:
        self._patch = pytest.MonkeyPatch()
        fused = _foreach_utils._get_fused_kernels_supported_devices
        optimizer = sys.modules["torch.optim.optimizer"]
        self._patch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [*fused(), DEVICE.type])
        autocast = torch.autocast
        self._patch.setattr(torch, "autocast", lambda _device, *args, **kwargs: autocast("cpu", *args, **kwargs))
        # Parameters are exchanged: to take another's data alone would leave one that is of no kind.
        self._swapped = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        torch.__future__.set_swap_module_params_on_conversion(self._swapped)
        self._patch.undo()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    there = [t for t in tensors if isinstance(t, OnGpu)]
    apart = [tuple(t.shape) for t in tensors if not isinstance(t, OnGpu) and t.dim()]
    if there and apart and func not in ACROSS:
        raise RuntimeError(f"{func}: tensors on the GPU and on the CPU: {apart} on the CPU.")
    wanted = kwargs.get("device")
    if wanted is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    out = func(*tree_map_only(OnGpu, _inner, args), **tree_map_only(OnGpu, _inner, kwargs))
    if func._schema.is_mutable:  # what was changed in place is what was given
        names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        return given[names[0]] if len(func._schema.returns) == 1 else None
    if bool(there) if wanted is None else torch.device(wanted) == DEVICE:
        if func in ACROSS:
            out = out.clone()
        return tree_map_only(torch.Tensor, OnGpu, out)
    return out


def _inner(tensor: OnGpu) -> torch.Tensor:
    return tensor.inner

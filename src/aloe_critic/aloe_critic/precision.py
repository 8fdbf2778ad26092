"""Where networks learn, and where in bfloat16: encoders, critics and heads, where it is faster."""

from __future__ import annotations

import torch

from aloe_core.errors import AloeError
from aloe_critic.hyper import Hyper


def device_of(hyper: Hyper) -> torch.device:
    """Return where networks and what they are fitted to are; AloeError if there is no such device.

    What is drawn and counted stays on the CPU, and so does what a run keeps.
    """
    try:
        device = torch.device(hyper.device)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise AloeError(f"device = {hyper.device!r}: expected cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise AloeError(f"device = {hyper.device!r}: PyTorch finds {torch.cuda.device_count()} GPUs here.")
    return device


def autocast(hyper: Hyper) -> torch.autocast:
    """Return a context for forward passes; weights, targets, losses and values stay float32."""
    device = torch.device(hyper.device).type
    return torch.autocast(device, torch.bfloat16, enabled=hyper.precision == "bfloat16" or _pays(hyper, device))


def _pays(hyper: Hyper, device: str) -> bool:
    # On a CPU only tiles (AMX) are faster than float32. AVX-512's instructions alone make products of these sizes half
    # as fast (measured on a Xeon with AVX512_BF16); emulated, without either, an encoder's step takes 10 times as long.
    return hyper.precision == "auto" and (device == "cuda" or torch.cpu._is_amx_tile_supported())

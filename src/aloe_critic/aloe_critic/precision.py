"""Where bfloat16 is used: in encoders, critics and heads, on processors that have instructions for it."""

from __future__ import annotations

import torch

from aloe_critic.hyper import Hyper


def autocast(hyper: Hyper) -> torch.autocast:
    """Return a context for forward passes; weights, targets, losses and values stay float32."""
    device = torch.device(hyper.device).type
    return torch.autocast(device, torch.bfloat16, enabled=hyper.precision == "bfloat16" or _pays(hyper, device))


def _pays(hyper: Hyper, device: str) -> bool:
    # Without the instructions it is emulated (measured: an encoder's step takes 10 times as long as in float32).
    return hyper.precision == "auto" and (device == "cuda" or torch.cpu._is_avx512_bf16_supported())

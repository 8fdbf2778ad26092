"""Regression on expectiles: what is optimistic or pessimistic about a mean, without a maximum over samples."""

from __future__ import annotations

import torch
from torch import Tensor


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(u < 0)| u^2 of u = Q - V; its minimiser V is that expectile of Q."""
    return torch.where(difference > 0, expectile, 1 - expectile) * difference.square()

"""Chunks as knots: every k-th control step is predicted, the steps between are linear."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def knot_rows(steps: int, stride: int) -> list[int]:
    """Return the rows of a chunk of `steps` that are knots; the first and last row always are."""
    rows = list(range(0, steps, stride))
    if rows[-1] != steps - 1:
        rows.append(steps - 1)
    return rows


def interpolation(steps: int, stride: int) -> Tensor:
    """Return the matrix [steps, knots] that maps knots to every control step."""
    rows = knot_rows(steps, stride)
    matrix = torch.zeros(steps, len(rows))
    matrix[rows[0], 0] = 1.0
    for k, (a, b) in enumerate(itertools.pairwise(rows)):
        for i in range(a, b + 1):
            share = (i - a) / (b - a)
            matrix[i] = 0.0
            matrix[i, k], matrix[i, k + 1] = 1.0 - share, share
    return matrix

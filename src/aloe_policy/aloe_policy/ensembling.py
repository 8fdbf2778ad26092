"""Temporal ensembling (ACT, arXiv 2304.13705): a step's action is the mean of what several chunks said of it."""

from __future__ import annotations

from torch import Tensor

from aloe_policy.chunking import FRESH


def ensembled(chunks: Tensor, planned: Tensor, fresh: float = FRESH) -> Tensor:
    """Chunks [.., H, A] with their leading L rows averaged with `planned` [L, A], which is such a mean itself.

    What a chunk said therefore counts fresh, fresh (1 - fresh), ... as newer ones come.
    """
    rows = min(len(planned), chunks.shape[-2])
    mean = chunks.clone()
    mean[..., :rows, :] += (1 - fresh) * (planned[:rows] - chunks[..., :rows, :])
    return mean

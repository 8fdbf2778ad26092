"""What of a chunk will have run before the chunk takes over, as a flow over knots takes it.

Training-time real-time chunking (arXiv 2512.05964), with the steps as a condition of the flow
(docs/adr/0018-steps-given-in-training.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Given:
    """Of a batch of chunks, the steps that will have run."""

    token: Tensor  # float32 [B, P * (A + 1)]: the steps, normalised, 0 where nothing is given; and which are given
    knots: Tensor  # float32 [B, D], normalised; of meaning where `fixed`
    fixed: Tensor  # bool [B, D], knots among the steps given

    def insert(self, x: Tensor) -> Tensor:
        """Return chunks x [B, n, D] with the given knots in their places."""
        return torch.where(self.fixed[:, None], self.knots[:, None], x)


def token_size(steps: int, action_dim: int) -> int:
    """Numbers in a token of at most `steps` steps."""
    return steps * (action_dim + 1)


def drawn_delay(share: Tensor, longest: int) -> Tensor:
    """Uniform numbers [B] in [0, 1) to d, int64 [B]: 0 in one half, else 1 to `longest`, equally often.

    The paper draws d from 0 on alike; but in lock-step and at the start of an episode nothing is given, and there a
    policy is measured as well.
    """
    return ((2 * share - 1).clamp_min(0) * longest).ceil().long()

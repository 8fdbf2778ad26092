"""Chunk transitions of episodes of flat state vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aloe_core.errors import AloeError


@dataclass(frozen=True)
class Episodes:
    """E episodes of T steps: state, action taken in it, and where the objects were (m)."""

    observations: np.ndarray  # float32 [E, T, S]
    actions: np.ndarray  # float32 [E, T, A]
    objects: np.ndarray  # float32 [E, T, n, 3]


@dataclass(frozen=True)
class Transitions:
    """N chunk transitions, as indices into the rows they were cut from."""

    states: Tensor  # float32 [R, S], every state once
    start: Tensor  # int64 [N], row of s_t
    end: Tensor  # int64 [N], row of s_{t+h}
    chunk: Tensor  # float32 [N, h * A]
    reward: Tensor  # float32 [N], discounted sum while the chunk ran
    discount: Tensor  # float32 [N], gamma^h; 0 where the task was done before the chunk was

    def __len__(self) -> int:
        return len(self.start)

    def to(self, device: str | torch.device) -> Transitions:
        """Return the same transitions on `device`."""
        return Transitions(**{name: value.to(device) for name, value in vars(self).items()})


def chunk_transitions(
    episodes: Episodes, reward: np.ndarray, done: np.ndarray, *, horizon: int, gamma: float, policy_horizon: int = 0
) -> Transitions:
    """Cut chunks of `horizon` steps at every step: reward [E, T] and done [E, T] are those of the state acted in.

    Where the task is done in s_t nothing more is earned and nothing follows. With `policy_horizon` below `horizon` only
    that many actions are kept: the n-step return of a policy that acts in shorter chunks.
    """
    e, t, _ = episodes.observations.shape
    starts = t - horizon
    if starts < 1:
        raise AloeError(f"Episodes of {t} steps have no chunk of {horizon} with a state after it.")
    total, alive, factor = np.zeros((e, starts)), np.ones((e, starts)), 1.0
    for k in range(horizon):
        total += factor * alive * reward[:, k : k + starts]
        alive *= ~done[:, k : k + starts]
        factor *= gamma
    acted = policy_horizon or horizon
    chunk = np.stack([episodes.actions[:, k : k + starts] for k in range(acted)], 2)
    row = np.arange(e * t).reshape(e, t)
    return Transitions(
        states=torch.as_tensor(episodes.observations.reshape(e * t, -1)),
        start=torch.as_tensor(row[:, :starts].ravel()),
        end=torch.as_tensor(row[:, horizon:].ravel()),
        chunk=torch.as_tensor(chunk.reshape(e * starts, -1)),
        reward=torch.as_tensor(total.ravel(), dtype=torch.float32),
        discount=torch.as_tensor((factor * alive).ravel(), dtype=torch.float32),
    )

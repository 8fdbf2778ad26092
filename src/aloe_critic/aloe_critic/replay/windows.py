"""Action windows of many episodes as tensors; the arithmetic is that of `aloe_core.episode.transitions`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError

DENSE_BYTES = 256 << 20  # chunks up to this size are gathered once, larger sets on demand


@dataclass(frozen=True)
class Windows:
    """N action windows of all episodes, as tensors."""

    episode: Tensor  # int64 [N]
    obs: Tensor  # int64 [N], observation row at the start
    next_obs: Tensor  # int64 [N], observation row after the executed prefix
    # float32 [N, H, A], executed positions; rows past `plan_length` repeat the last. Above DENSE_BYTES a `LazyChunks`,
    # which knows the same indexing by rows.
    chunk: Tensor
    plan_length: Tensor  # int64 [N], rows of `chunk` that one source really ran, up to H
    length: Tensor  # int64 [N], executed steps scored by the critic, up to h
    reward: Tensor  # float32 [N], discounted and normalised
    discount: Tensor  # float32 [N], gamma^length, 0 where terminated
    source: Tensor  # uint8 [N], Source

    def __len__(self) -> int:
        return len(self.obs)


class LazyChunks:
    """Chunks [N, H, A] that are gathered when indexed: windows overlap, so that all of them at once need H / stride
    times the memory of the steps."""

    def __init__(
        self,
        executed: Tensor,
        start: Tensor,
        length: Tensor,
        horizon: int,
        used: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`executed` [steps, A] of all episodes; `start` (step) and `length` of each window, int64 [N].

        `used` is told how many windows were gathered.
        """
        self._executed, self._start, self._length, self._used = executed.numpy(), start, length, used
        self.shape = torch.Size((len(start), horizon, executed.shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Tensor:
        """Chunks of these windows, or of [windows, steps], as a new tensor float32 [n, steps, A]."""
        windows, columns = key if isinstance(key, tuple) else (key, slice(None))
        start, length = self._start[windows], self._length[windows]
        steps = torch.arange(self.shape[1])[columns]
        at = start[..., None] + torch.minimum(steps, length[..., None] - 1)
        chunks = torch.from_numpy(self._executed[at.numpy()])
        self._used(start.numel())
        return chunks


def score(
    length: Tensor, ending: Tensor, execute: int, *, gamma: float, max_length: float, failure_cost: float
) -> tuple[Tensor, Tensor]:
    """Reward and discount, float32 [N] each, of windows of `length` steps that end with an Outcome or (0) go on.

    The numbers of `aloe_core.episode.transitions`, of which there are no more than 3 x execute.
    """
    step = np.float32(-1.0 / max_length).astype(np.float64)
    last = {
        0: step,
        int(Outcome.SUCCESS): 0.0,
        int(Outcome.FAILURE): np.float32(-failure_cost / max_length).astype(np.float64),
    }
    reward = np.zeros((execute + 1, 3))
    for ending_value, value in last.items():
        for n in range(1, execute + 1):
            reward[n, ending_value] = sum(gamma**k * step for k in range(n - 1)) + gamma ** (n - 1) * value
    discount = np.repeat(gamma ** np.arange(execute + 1.0)[:, None], 3, 1)
    discount[:, 1:] = 0.0
    if not np.isfinite(reward).all():
        raise AloeError(
            f"Rewards are not finite: gamma = {gamma}, max_length = {max_length}, failure_cost = {failure_cost}."
        )
    pair = length, ending.long()
    return torch.from_numpy(reward.astype(np.float32))[pair], torch.from_numpy(discount.astype(np.float32))[pair]

"""Action windows of many episodes as tensors; the arithmetic is that of `aloe_core.episode.transitions`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aloe_core.episode.data import EpisodeData

DENSE_BYTES = 256 << 20  # chunks up to this size are gathered once, larger sets on demand
RELEASE_EVERY = 512  # windows; each may make 16 pages resident


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
    times the memory of the episodes."""

    def __init__(
        self,
        episodes: Sequence[EpisodeData],
        episode: np.ndarray,
        start: np.ndarray,
        length: np.ndarray,
        horizon: int,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """`episode`, `start` (step) and `length` of each window, int64 [N]; `release` as in `Replay`."""
        self._episodes, self._release = episodes, release
        self._gathered = 0
        self._episode, self._start, self._length = episode, start, length
        self.shape = torch.Size((len(start), horizon, episodes[0].executed.shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Tensor:
        """Chunks of these windows, or of [windows, steps], as a new tensor float32 [n, steps, A]."""
        windows, columns = key if isinstance(key, tuple) else (key, slice(None))
        count, horizon, width = self.shape
        picked = torch.arange(count)[windows]
        rows = picked.reshape(-1).numpy()
        steps = torch.arange(horizon)[columns].numpy()
        out = np.empty((len(rows), len(steps), width), np.float32)
        at = self._start[rows, None] + np.minimum(steps, self._length[rows, None] - 1)
        for i, number in enumerate(self._episode[rows].tolist()):
            out[i] = self._episodes[number].executed[at[i]]
            self._gathered += 1
            if self._gathered % RELEASE_EVERY == 0:
                self._release()
        return torch.from_numpy(out).view(*picked.shape, len(steps), width)

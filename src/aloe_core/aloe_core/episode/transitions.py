"""Chunk transitions, derived from an episode and never stored twice (ALOE, arXiv 2602.12691)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aloe_core.episode.data import EpisodeData, Outcome


@dataclass(frozen=True)
class Transitions:
    """N chunk transitions of one episode; row indices refer to `EpisodeData.state` and `stamps`."""

    horizon: int
    start: np.ndarray  # int64 [N]: row of the observation and first executed step
    length: np.ndarray  # int64 [N]: executed steps, 1..horizon
    reward: np.ndarray  # float32 [N]: sum of gamma^k r, normalised
    discount: np.ndarray  # float32 [N]: gamma^length, 0 where terminated
    next: np.ndarray  # int64 [N]: start + length, row of the bootstrap observation
    source: np.ndarray  # uint8 [N]: Source of every step of the chunk
    terminated: np.ndarray  # bool [N]: success or failure ends it, no bootstrap
    truncated: np.ndarray  # bool [N]: cut by time-out, abort, takeover, hand-back or a gap; bootstraps

    def __len__(self) -> int:
        return len(self.start)

    @property
    def mask(self) -> np.ndarray:
        """Return which rows of a padded chunk ran, bool [N, horizon]."""
        mask: np.ndarray = np.arange(self.horizon) < self.length[:, None]
        return mask

    def chunks(self, values: np.ndarray) -> np.ndarray:
        """Gather per-step `values` [T, D] into [N, horizon, D]; rows past a chunk's length repeat its last step."""
        rows = self.start[:, None] + np.minimum(np.arange(self.horizon), self.length[:, None] - 1)
        gathered: np.ndarray = values[rows]
        return gathered


def step_rewards(ep: EpisodeData, *, max_length: float, failure_cost: float) -> np.ndarray:
    """Return each step's reward, float32 [T]: -1, the last 0 on success or -failure_cost on failure, / max_length.

    `max_length` and `failure_cost` are in control steps (longest and average episode of the task).
    """
    reward = np.full(ep.steps, -1.0)
    if ep.steps and _ends_by_label(ep):
        reward[-1] = 0.0 if ep.outcome == Outcome.SUCCESS else -failure_cost
    return (reward / max_length).astype(np.float32)


def chunk_transitions(
    ep: EpisodeData,
    horizon: int,
    *,
    max_length: float,
    failure_cost: float,
    gamma: float = 0.99,
    stride: int | None = None,
) -> Transitions:
    """Cut an episode into transitions of at most `horizon` steps of one source (of every joint group).

    stride None: disjoint; a policy chunk starts where it really started, other sources are cut every `horizon` steps.
    stride k: a window starts every k steps of each source's run and ends at the run's end at the latest.
    A step whose successor is missing (`ep.breaks`) belongs to no transition.
    """
    begin, end, whole = _runs(ep, split_chunks=stride is None)
    step = horizon if stride is None else stride
    counts = -(-(end - begin) // step)
    run = np.repeat(np.arange(len(begin)), counts)
    offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    start = begin[run] + offset * step
    length = np.minimum(horizon, end[run] - start)
    after = start + length

    rewards = step_rewards(ep, max_length=max_length, failure_cost=failure_cost).astype(np.float64)
    terminated = (after == ep.steps) & _ends_by_label(ep)
    return Transitions(
        horizon=horizon,
        start=start,
        length=length,
        reward=_discounted_sums(rewards, start, length, gamma, horizon).astype(np.float32),
        discount=np.where(terminated, 0.0, gamma ** length.astype(np.float64)).astype(np.float32),
        next=after,
        source=ep.source[start],
        terminated=terminated,
        truncated=(after == end[run]) & whole[run] & ~terminated,
    )


def _ends_by_label(ep: EpisodeData) -> bool:
    return ep.terminated and ep.outcome in (Outcome.SUCCESS, Outcome.FAILURE)


def _runs(ep: EpisodeData, *, split_chunks: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return begin, end (exclusive) and "its source ends here" of each maximal run that may become transitions."""
    steps = ep.steps
    usable = np.ones(steps, bool)
    usable[list(ep.breaks)] = False
    source_cut = np.ones(steps + 1, bool)
    source_cut[1:-1] = (ep.source[1:] != ep.source[:-1]) | ~usable[1:] | ~usable[:-1]
    if ep.group_source is not None:  # one arm was taken over or handed back
        source_cut[1:-1] |= (ep.group_source[1:] != ep.group_source[:-1]).any(axis=1)
    cut = source_cut.copy()
    if split_chunks:
        cut[1:-1] |= ep.chunk[1:] != ep.chunk[:-1]
    edges = np.flatnonzero(cut)
    begin, end = edges[:-1], edges[1:]
    keep = usable[begin]
    return begin[keep], end[keep], source_cut[end[keep]]


def _discounted_sums(
    rewards: np.ndarray, start: np.ndarray, length: np.ndarray, gamma: float, horizon: int
) -> np.ndarray:
    """Return sum_{k < length} gamma^k rewards[start + k] per row, one vector operation per k."""
    total = np.zeros(len(start))
    for k in range(horizon):
        alive = np.flatnonzero(length > k)
        total[alive] += gamma**k * rewards[start[alive] + k]
    return total

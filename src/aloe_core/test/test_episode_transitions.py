"""Chunk transitions against a step-by-step reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.episode.data import EpisodeData, Outcome, Source
from aloe_core.episode.transitions import Transitions, chunk_transitions, step_rewards

LABELLED = (Outcome.SUCCESS, Outcome.FAILURE)


def episode(
    source: list[int],
    chunk: list[int] | None = None,
    outcome: Outcome = Outcome.SUCCESS,
    end: str = "terminated",
    breaks: tuple[int, ...] = (),
) -> EpisodeData:
    steps = len(source)
    zeros = np.zeros((steps, 2), np.float32)
    return EpisodeData(
        episode_id="e",
        task="t",
        instruction="",
        seed=0,
        outcome=outcome,
        end=end,
        contract_hash="",
        dt=0.02,
        stamps=np.arange(steps + 1) * 20_000_000,
        state=np.zeros((steps + 1, 2), np.float32),
        requested=zeros,
        executed=np.repeat(np.arange(steps, dtype=np.float32)[:, None], 2, axis=1),
        source=np.array(source, np.uint8),
        chunk=np.array([-1] * steps if chunk is None else chunk, np.int32),
        chunk_index=np.full(steps, -1, np.int32),
        frames={},
        breaks=breaks,
    )


@st.composite
def episodes(draw: st.DrawFn) -> EpisodeData:
    source: list[int] = []
    chunk: list[int] = []
    for number in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from([Source.HOLD, Source.POLICY, Source.HUMAN]))
        length = draw(st.integers(1, 7))
        source += [int(kind)] * length
        chunk += [number if kind == Source.POLICY else -1] * length
    breaks = draw(st.sets(st.integers(0, len(source) - 1), max_size=2)) if source else set()
    outcome = draw(st.sampled_from(list(Outcome)))
    end = draw(st.sampled_from(["terminated", "truncated", "aborted"]))
    return episode(source, chunk, outcome, end, tuple(sorted(breaks)))


def reference(ep: EpisodeData, horizon: int, stride: int | None, gamma: float, max_length: float, cost: float):
    """The same, one step at a time."""
    rows = []
    labelled = ep.end == "terminated" and ep.outcome in LABELLED

    def same_run(a: int, b: int) -> bool:
        if b >= ep.steps or ep.source[a] != ep.source[b] or a in ep.breaks or b in ep.breaks:
            return False
        return stride is not None or ep.chunk[a] == ep.chunk[b]

    def reward(t: int) -> float:
        if labelled and t == ep.steps - 1:
            return 0.0 if ep.outcome == Outcome.SUCCESS else -cost / max_length
        return -1.0 / max_length

    t = 0
    while t < ep.steps:
        end = t + 1
        while same_run(end - 1, end):
            end += 1
        if t not in ep.breaks:
            for start in range(t, end, stride or horizon):
                length = min(horizon, end - start)
                after = start + length
                terminated = after == ep.steps and labelled
                goes_on = after < ep.steps and ep.source[after] == ep.source[start] and after not in ep.breaks
                rows.append(
                    (
                        start,
                        length,
                        sum(gamma**k * reward(start + k) for k in range(length)),
                        0.0 if terminated else gamma**length,
                        terminated,
                        not terminated and not goes_on,
                    )
                )
        t = end
    return rows


@given(episodes(), st.integers(1, 6), st.none() | st.integers(1, 4), st.floats(0.5, 1.0))
def test_transitions_equal_the_step_by_step_reference(ep, horizon, stride, gamma):
    got = chunk_transitions(ep, horizon, stride=stride, gamma=gamma, max_length=40, failure_cost=25)
    want = reference(ep, horizon, stride, gamma, 40, 25)
    assert len(got) == len(want)
    for row, (start, length, reward, discount, terminated, truncated) in enumerate(want):
        assert got.start[row] == start
        assert got.length[row] == length
        assert got.next[row] == start + length
        assert got.source[row] == ep.source[start]
        assert got.reward[row] == pytest.approx(reward, abs=1e-6)
        assert got.discount[row] == pytest.approx(discount, abs=1e-6)
        assert got.terminated[row] == terminated
        assert got.truncated[row] == truncated


@given(episodes(), st.integers(1, 6))
def test_without_stride_every_whole_step_is_in_exactly_one_transition(ep, horizon):
    got = chunk_transitions(ep, horizon, max_length=40, failure_cost=25)
    covered = [t for start, n in zip(got.start, got.length, strict=True) for t in range(start, start + n)]
    assert covered == [t for t in range(ep.steps) if t not in ep.breaks]


def test_takeover_cuts_the_policy_chunk_and_starts_a_human_segment():
    ep = episode([1] * 3 + [2] * 5, [0] * 3 + [-1] * 5)
    got = chunk_transitions(ep, 4, max_length=10, failure_cost=5, gamma=0.9)
    assert got.start.tolist() == [0, 3, 7]
    assert got.length.tolist() == [3, 4, 1]
    assert got.source.tolist() == [Source.POLICY, Source.HUMAN, Source.HUMAN]
    assert got.truncated.tolist() == [True, False, False]
    assert got.terminated.tolist() == [False, False, True]
    assert got.discount == pytest.approx([0.9**3, 0.9**4, 0.0])
    assert got.reward == pytest.approx([-0.271, -0.3439, 0.0])


def test_time_out_bootstraps_and_success_does_not():
    for end, outcome, discount in (("truncated", Outcome.NONE, 0.81), ("terminated", Outcome.SUCCESS, 0.0)):
        got = chunk_transitions(episode([1, 1], outcome=outcome, end=end), 2, gamma=0.9, max_length=10, failure_cost=5)
        assert got.discount == pytest.approx([discount])
        assert got.truncated.tolist() == [end == "truncated"]


def test_failure_costs_once_at_the_last_step():
    ep = episode([1] * 4, outcome=Outcome.FAILURE)
    assert step_rewards(ep, max_length=8, failure_cost=6) == pytest.approx([-0.125] * 3 + [-0.75])


def test_padded_chunks_repeat_the_last_step_and_mask_it_out():
    got: Transitions = chunk_transitions(episode([1] * 5), 3, max_length=10, failure_cost=5)
    assert got.mask.tolist() == [[True] * 3, [True, True, False]]
    assert got.chunks(np.arange(5.0)[:, None])[..., 0].tolist() == [[0, 1, 2], [3, 4, 4]]

"""Chunk transitions of flat states against a walk through each episode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.errors import AloeError
from aloe_critic.flat.data import Episodes, chunk_transitions

GAMMA = 0.9


def episodes(count: int, steps: int) -> Episodes:
    numbers = np.arange(count * steps, dtype=np.float32).reshape(count, steps, 1)
    return Episodes(numbers, numbers + 0.5, np.zeros((count, steps, 1, 3), np.float32))


@given(
    count=st.integers(1, 3),
    steps=st.integers(4, 12),
    horizon=st.integers(1, 3),
    acts=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_rewards_stop_with_the_task_and_so_does_the_bootstrap(count, steps, horizon, acts, seed):
    acts = min(acts, horizon)
    random = np.random.default_rng(seed)
    reward, done = random.normal(size=(count, steps)), random.random((count, steps)) < 0.2
    data = chunk_transitions(episodes(count, steps), reward, done, horizon=horizon, gamma=GAMMA, policy_horizon=acts)
    walked = [(e, t) for e in range(count) for t in range(steps - horizon)]
    assert len(data) == len(walked)
    for i, (e, t) in enumerate(walked):
        total, discount = 0.0, 1.0
        for k in range(horizon):
            total += discount * reward[e, t + k]
            if done[e, t + k]:
                discount = 0.0
                break
            discount *= GAMMA
        assert data.reward[i] == pytest.approx(total, abs=1e-5)
        assert data.discount[i] == pytest.approx(discount, abs=1e-6)
        first = e * steps + t
        assert data.states[data.start[i], 0] == first
        assert data.states[data.end[i], 0] == first + horizon  # of the same episode: it never crosses into the next
        assert data.chunk[i].tolist() == [first + k + 0.5 for k in range(acts)]


def test_episodes_shorter_than_a_chunk_are_refused():
    with pytest.raises(AloeError, match="Episodes of 3 steps have no chunk of 3"):
        chunk_transitions(episodes(1, 3), np.zeros((1, 3)), np.zeros((1, 3), bool), horizon=3, gamma=GAMMA)

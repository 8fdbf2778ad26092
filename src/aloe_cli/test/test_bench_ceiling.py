"""What is said of the worth of chunks within states: chance is not taken for skill."""

import numpy as np
import pytest

from aloe_cli.bench.ceiling import skill, spread


def test_chance_is_taken_off_what_chunks_differ_by():
    rng = np.random.default_rng(0)
    states = rng.normal(0, 0.4, (400, 1, 1))
    chunks = rng.normal(0, 0.1, (400, 8, 1))
    worth = states + chunks + rng.normal(0, 0.3, (400, 8, 4))
    found = spread(worth)
    assert found["states"] == 400
    assert found["sd_states"] == pytest.approx(0.4, abs=0.05)
    assert found["sd_chunks"] == pytest.approx(0.1, abs=0.015)
    assert found["noise"] == pytest.approx(0.3 / 2, abs=0.01)
    assert spread(np.broadcast_to(states, (400, 8, 4)))["sd_chunks"] == 0


def test_a_critic_that_knows_chunks_gains_one_that_knows_states_alone_does_not():
    rng = np.random.default_rng(1)
    states, chunks = rng.normal(0, 1, (500, 1)), rng.normal(0, 0.1, (500, 8))
    worth = states + chunks
    knows = skill(worth, states + chunks + rng.normal(0, 0.01, chunks.shape))
    assert knows["correlation"] > 0.95 and knows["gain"] == pytest.approx(0.14, abs=0.02)
    blind = skill(worth, states + rng.normal(0, 0.01, chunks.shape))
    assert abs(blind["correlation"]) < 0.05 and abs(blind["gain"]) < 0.02
    assert skill(worth, np.broadcast_to(states, chunks.shape))["correlation"] is None

"""Values by brute force: episodes go on from their own states."""

from dataclasses import replace

import numpy as np
import pytest

from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError
from aloe_sim.exact import exact_chunk_values, exact_values
from aloe_sim.rollout import run_episode
from aloe_sim.skill import Skill
from aloe_sim.station import Station
from sim_tools import ROBOT, Planner, Still


def length(ep):
    """Minus the steps until success, -1000 without one."""
    return -float(ep.steps) if ep.outcome == Outcome.SUCCESS else -1000.0


@pytest.fixture(scope="module")
def station():
    made = Station(ROBOT, render=False)
    yield made
    made.close()


def test_a_policy_without_chance_is_worth_what_followed(station):
    policy = Planner(station, Skill())
    ep = run_episode(station, 3, policy, record=False, observe="objects")
    assert ep.outcome == Outcome.SUCCESS
    steps = [0, 40]
    values = exact_values(station, ep, steps, policy, length, tries=2, observe="objects")
    np.testing.assert_allclose(values, [-ep.steps, 40 - ep.steps], atol=3)


def test_a_policy_that_stands_still_is_worth_nothing_anywhere(station):
    ep = run_episode(station, 3, Still(), time_limit=0.4, record=False, observe="objects")
    assert exact_values(station, ep, [0, 10], Still(), length, tries=1, observe="objects").tolist() == [-1000] * 2


def test_what_cannot_be_found_again_is_one_sentence(station):
    shown = run_episode(station, 3, None, "demonstrate", observe="objects")
    with pytest.raises(AloeError, match="a person drove"):
        exact_values(station, shown, [0], Still(), length)
    ep = run_episode(station, 3, Still(), time_limit=0.4, record=False, observe="objects")
    moved = ep.state.copy()
    moved[5:] += 0.1
    with pytest.raises(AloeError, match="elsewhere at step 5"):
        exact_values(station, replace(ep, state=moved), [0], Still(), length)


def test_a_chunk_is_worth_what_follows_when_the_policy_goes_on_after_it(station):
    """To stand still for a chunk costs the steps of it that run, and a chunk of the policy's own costs nothing."""
    policy = Planner(station, Skill())
    ep = run_episode(station, 3, policy, record=False, observe="objects")

    def sample(obs):
        return np.stack([policy.infer(obs).chunk.actions, Still().infer(obs).chunk.actions])

    steps = [0, 40]
    values, openings = exact_chunk_values(
        station, ep, steps, policy, sample, length, chunks=2, tries=2, observe="objects"
    )
    assert values.shape == (2, 2, 2)
    np.testing.assert_allclose(values[:, 0].mean(1), [-ep.steps, 40 - ep.steps], atol=3)
    np.testing.assert_allclose(values[:, 0] - values[:, 1], ROBOT.chunk.execute, atol=4)
    assert [o.chunks.shape for o in openings] == [(2, ROBOT.chunk.horizon, ROBOT.action_dim)] * 2
    assert openings[1].observation.stamp == 40 * round(1e9 * ROBOT.dt)

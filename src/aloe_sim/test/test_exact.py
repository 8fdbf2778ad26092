"""Values by brute force: episodes go on from their own states."""

from dataclasses import replace

import numpy as np
import pytest

from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError
from aloe_sim.exact import exact_values
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

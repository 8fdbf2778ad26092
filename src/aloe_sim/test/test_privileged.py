"""Poses in place of cameras: for benchmarks that ask how methods learn."""

import numpy as np
import pytest

from aloe_sim.privileged import object_state
from aloe_sim.rollout import run_episode
from aloe_sim.station import Station
from aloe_sim.tasks import TASKS
from sim_tools import ROBOT


@pytest.mark.parametrize("task", TASKS)
def test_every_task_says_where_things_are_in_numbers_of_one_length(task):
    station = Station(ROBOT, task, TASKS[task].levels[0], render=False)
    seen = []
    for seed in (0, 1):
        station.reset(seed)
        seen.append(object_state(station))
    assert seen[0].dtype == np.float32 and seen[0].shape == seen[1].shape
    assert np.isfinite(seen).all() and np.abs(seen).max() < 3, "metres and rotations"
    assert np.abs(seen[0] - seen[1]).max() > 0.005, "start states differ, and it shows"
    for item in _elsewhere(station):
        assert any(np.allclose(seen[1][i : i + 3], station.position(item), atol=1e-6) for i in range(len(seen[1]) - 2))


def _elsewhere(station: Station) -> list[str]:
    """Return the bodies in the world, cloth aside, that two resets put at different places."""
    model, places = station.model, []
    for seed in (0, 1):
        station.reset(seed)
        places.append(station.data.xpos.copy())
    moved = np.abs(places[0] - places[1]).max(1) > 1e-6
    moved[model.flex_vertbodyid] = False
    found = [model.body(i).name for i in np.flatnonzero(moved) if model.body_parentid[i] == 0]
    assert set(found) >= set(station.task.items)
    return found


def test_an_episode_seen_as_objects_renders_nothing_and_ends_as_with_cameras():
    contract = ROBOT
    blind = Station(contract, render=False)
    ep = run_episode(blind, 3, None, "demonstrate", observe="objects")
    assert ep.frames == {} and ep.objects is not None and len(ep.objects) == ep.steps + 1
    seeing = Station(contract)
    try:
        other = run_episode(seeing, 3, None, "demonstrate")
    finally:
        seeing.close()
    assert other.objects is None
    np.testing.assert_array_equal(ep.executed, other.executed)

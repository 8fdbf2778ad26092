"""The ramp-in of leader arms: it begins at the robot's command, ends at the leader and never jumps."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.contract import load_contract
from aloe_core.control import RobotState
from aloe_teleop.leader import LeaderArms

BASE = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")
J = BASE.action_dim
LEFT, RIGHT = np.arange(7), np.arange(7, 14)
MS = 1_000_000
values = st.lists(st.floats(-1, 1), min_size=7, max_size=7).map(np.array)


def arms(ramp: float, *, lockstep: bool = False) -> LeaderArms:
    takeover = BASE.takeover.model_copy(update={"ramp": ramp})
    return LeaderArms(BASE.model_copy(update={"takeover": takeover}), lockstep=lockstep)


@given(st.floats(0.1, 2.0), values, values, st.lists(values, min_size=1, max_size=30))
def test_the_command_begins_at_the_robot_and_moves_no_faster_than_leader_and_ramp_together(ramp, robot, first, path):
    leaders, command = arms(ramp), np.zeros(J)
    command[LEFT] = robot
    leaders.take(0, 0, LEFT, first)
    leaders.start(0, "left", command)
    before, place = leaders.command(("left",)).positions, first
    np.testing.assert_allclose(before, robot, atol=1e-12)
    for k, leader in enumerate(path, start=1):
        leaders.take(k * 20 * MS, 0, LEFT, leader)
        after = leaders.command(("left",)).positions
        fading = 1.5 * 0.02 / ramp * np.abs(robot - first)  # a smooth step is 1.5 times as steep as a line
        assert (np.abs(after - before) <= np.abs(leader - place) + fading + 1e-9).all()
        before, place = after, leader


@pytest.mark.parametrize("lockstep", [False, True])
def test_after_the_ramp_the_command_is_the_leader(lockstep):
    leaders = arms(0.5, lockstep=lockstep)
    leaders.take(0, 0, LEFT, np.zeros(7))
    leaders.start(0, "left", np.full(J, 0.2))
    leaders.take(250 * MS, 250 * MS, LEFT, np.zeros(7))
    np.testing.assert_allclose(leaders.command(("left",)).positions, 0.1)
    leaders.take(500 * MS, 500 * MS, LEFT, np.full(7, 0.05))
    np.testing.assert_allclose(leaders.command(("left",)).positions, 0.05)


def test_leaders_in_a_message_each_are_kept_apart_and_the_older_one_stamps_the_command():
    leaders = arms(0.0)
    leaders.take(0, 1000, LEFT, np.full(7, 0.1))
    leaders.take(0, 2000, RIGHT, np.full(7, 0.2))
    for group in ("left", "right"):
        assert leaders.ready(0, group, RobotState(0, np.zeros(J)))
        leaders.start(0, group, np.zeros(J))
    command = leaders.command(("left", "right"))
    assert command.stamp == 1000 and list(command.joints) == list(range(J))
    np.testing.assert_allclose(command.positions, [0.1] * 7 + [0.2] * 7)
    assert list(leaders.command(("right",)).joints) == list(RIGHT)

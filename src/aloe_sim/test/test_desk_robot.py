"""The desk arm: a robot with other joints, cameras and rates on the same station."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_sim.expert import Expert
from aloe_sim.kinematics import Pose, angle_between, down
from aloe_sim.robots import robot_for
from aloe_sim.station import Station
from aloe_sim.tasks.sorting import BIN
from sim_tools import ROOT, put

DESK = load_contract(ROOT / "config/robots/desk_arm.yaml")
STATION = Station(DESK, render=False)


def solve(station: Station) -> None:
    expert = Expert(station)
    while not (station.success or station.failure) and station.time < station.time_limit:
        station.step(expert.act())


def test_the_contract_promises_what_the_robot_can_do():
    robot = robot_for(DESK)
    for joint in DESK.joints:
        low, high = STATION.model.joint(robot.joints[joint.name]).range
        assert low - 1e-9 <= joint.min < joint.max <= high + 1e-9, joint.name
    assert (STATION.home >= DESK.lower).all() and (STATION.home <= DESK.upper).all()


@given(x=st.floats(-0.22, 0.22), y=st.floats(0.31, 0.72), z=st.floats(0.02, 0.12), yaw=st.floats(-1.2, 1.2))
@settings(max_examples=40, deadline=None)
def test_the_hand_points_down_everywhere_on_the_working_area(x, y, z, yaw):
    away = np.arctan2(y - 0.9, x)
    target = Pose(np.array([x, y, z]), down(away + yaw))
    found = STATION.kinematics.reach(STATION.home, {"arm": target}, iterations=80)
    reached = STATION.kinematics.poses(found)["arm"]
    np.testing.assert_allclose(reached.point, target.point, atol=2e-3)
    assert angle_between(reached.rotation, target.rotation) < 5e-3
    assert (found >= DESK.lower).all() and (found <= DESK.upper).all()


@pytest.mark.parametrize(("level", "variant"), [("easy", "train"), ("two", "held_out")])
def test_the_expert_sorts_with_one_arm(level, variant):
    station = Station(DESK, level=level, variant=variant, render=False)
    for seed in range(7000, 7004):
        station.reset(seed)
        solve(station)
        assert station.success, f"seed {seed}: stage {station.stage:.2f}"
        assert station.time < 0.75 * station.time_limit


def test_commands_stay_within_the_contract_s_limits():
    STATION.reset(3)
    expert, before = Expert(STATION), STATION.joint_positions()
    while not STATION.success:
        command = expert.act()
        assert (np.abs(command - before) <= DESK.velocity * DESK.dt + 1e-6).all()
        assert (command >= DESK.lower).all() and (command <= DESK.upper).all()
        STATION.step(command)
        before = command


@pytest.mark.parametrize("offset", [(0.03, -0.1), (-0.125, 0.0), (0.125, 0.02)])
def test_a_block_that_leans_on_the_bin_is_picked_up(offset):
    STATION.reset(1)
    put(STATION, "red_block", *(BIN + offset))
    solve(STATION)
    assert STATION.success


def test_a_block_beyond_the_arm_s_reach_is_lost():
    STATION.reset(1)
    put(STATION, "red_block", 0.26, 0.30)
    STATION.step(STATION.home)
    assert STATION.failure and not STATION.success


def test_ticks_and_frames_follow_the_contract():
    station = Station(DESK)
    station.reset(0)
    due = {"overhead": [], "wrist": []}
    for tick in range(11):
        for name, ticks in due.items():
            if station.frame_due(name):
                ticks.append(tick)
        station.step(station.home)
    assert station.stamp == 11 * 40_000_000
    assert due == {"overhead": [0, 2, 4, 6, 8, 10], "wrist": [0, 5, 10]}
    for camera in DESK.cameras:
        frame = station.render(camera.name)
        assert frame.shape == (camera.height, camera.width, 3) and frame.std() > 10
    image = station.render("overhead").astype(int)
    red = (image[..., 0] > 100) & (image[..., 1] < 60)
    assert red.sum() >= 49, "the block cannot be seen"
    station.close()


@pytest.mark.parametrize("level", ["three", "six"])
def test_what_needs_two_arms_is_refused(level):
    with pytest.raises(AloeError, match=f"desk_arm: task sorting, level {level} needs 2 arms; robot desk has 1"):
        Station(DESK, level=level, render=False)


def test_a_desk_contract_the_simulator_cannot_serve_is_refused():
    camera = DESK.cameras[0].model_copy(update={"name": "top"})
    with pytest.raises(AloeError, match="no camera 'top'; it has overhead, wrist, front"):
        Station(DESK.model_copy(update={"cameras": (camera,)}), render=False)
    with pytest.raises(AloeError, match="no joint 'gripper', which"):
        Station(DESK.model_copy(update={"joints": DESK.joints[:-1]}), render=False)
    joint = DESK.joints[0].model_copy(update={"name": "left_waist"})
    with pytest.raises(AloeError, match="no joint 'left_waist'; it has base_yaw, shoulder_lift"):
        Station(DESK.model_copy(update={"joints": (joint, *DESK.joints[1:])}), render=False)

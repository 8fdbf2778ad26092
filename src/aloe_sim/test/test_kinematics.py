import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_sim.kinematics import Kinematics, Pose, angle_between, down, facing, nearest_grasp, turn
from aloe_sim.robots import robot_for
from aloe_sim.station import Station
from sim_tools import ROBOT

STATION = Station(ROBOT, render=False)
KINEMATICS = Kinematics(robot_for(ROBOT), ROBOT.joint_names)
ARMS = st.sampled_from(("left", "right"))
YAW = st.floats(-1.2, 1.2)


def settle(positions: np.ndarray) -> None:
    """Put the joints where they are told, without physics."""
    for name, value in zip(ROBOT.joint_names, positions, strict=True):
        STATION.data.joint(STATION.robot.joints[name]).qpos[0] = value
    STATION.restore(STATION.snapshot())


# Within what the wrists can turn: further out or further over, a joint meets its limit before the hand its pose.
@given(
    arm=ARMS,
    x=st.floats(-0.20, 0.0),
    y=st.floats(0.35, 0.65),
    z=st.floats(0.01, 0.20),
    yaw=st.floats(-0.8, 0.8),
    tilt=st.floats(-0.5, 0.5),
)
@settings(max_examples=60, deadline=None)
def test_a_hand_comes_to_the_pose_asked_for_within_the_joints_limits(arm, x, y, z, yaw, tilt):
    point = np.array([x if arm == "left" else -x, y, z])
    natural = STATION.home_poses[arm].rotation
    across = natural[:, 1]
    angle = np.arctan2(across[1], across[0]) + yaw
    towards = np.array([np.sin(0.3 * tilt), 0.0, -np.cos(0.3 * tilt)])
    target = Pose(point, facing(towards, down(angle)[:, 1]))
    positions = KINEMATICS.reach(STATION.home, {arm: target}, iterations=60)
    assert (positions >= ROBOT.lower).all() and (positions <= ROBOT.upper).all()
    settle(positions)
    reached = STATION.hand(arm)
    np.testing.assert_allclose(reached.point, point, atol=1e-3)
    assert angle_between(reached.rotation, target.rotation) < 2e-3


def test_forward_kinematics_agree_with_the_station_s():
    rng = np.random.default_rng(0)
    for _ in range(5):
        positions = STATION.home + rng.uniform(-0.3, 0.3, ROBOT.action_dim) * (STATION.home != 0.055)
        settle(positions)
        for arm, pose in KINEMATICS.poses(positions).items():
            np.testing.assert_allclose(STATION.hand(arm).point, pose.point, atol=1e-9)
            np.testing.assert_allclose(STATION.hand(arm).rotation, pose.rotation, atol=1e-9)


def test_only_the_arm_that_is_asked_moves_and_the_grippers_stay():
    home = STATION.home_poses["left"]
    target = Pose(home.point + np.array([0.05, 0.02, -0.05]), home.rotation)
    moved = KINEMATICS.reach(STATION.home, {"left": target}) != STATION.home
    names = [name for name, m in zip(ROBOT.joint_names, moved, strict=True) if m]
    assert names and all(name.startswith("left_") and name != "left_gripper" for name in names)


@given(arm=ARMS, point=st.tuples(*[st.floats(-2, 2)] * 3))
@settings(max_examples=60, deadline=None)
def test_out_of_reach_is_answered_with_finite_joints_within_their_limits(arm, point):
    target = Pose(np.array(point), STATION.home_poses[arm].rotation)
    positions = KINEMATICS.reach(STATION.home, {arm: target}, iterations=20)
    assert np.isfinite(positions).all()
    assert (positions >= ROBOT.lower).all() and (positions <= ROBOT.upper).all()


@given(first=YAW, second=YAW, largest=st.floats(0.01, 3.0))
@settings(max_examples=60, deadline=None)
def test_a_turn_goes_towards_its_end_and_no_further(first, second, largest):
    start, end = down(first), down(second)
    reached = turn(start, end, largest)
    assert angle_between(start, reached) == pytest.approx(min(largest, abs(first - second)), abs=1e-5)
    assert angle_between(reached, end) == pytest.approx(max(0.0, abs(first - second) - largest), abs=1e-5)


def test_fingers_are_exchanged_where_that_is_the_smaller_turn():
    hand = down(0.2)
    assert angle_between(nearest_grasp(down(0.2 + np.pi), hand), hand) == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(nearest_grasp(down(0.3), hand), down(0.3))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_core.errors import AloeError
from aloe_sim.kinematics import ARMS, BASE, inverse, nearest_reachable, wrist_for
from aloe_sim.station import Station
from sim_tools import ROBOT

STATION = Station(ROBOT, render=False)


def settle(arm: str, joints: np.ndarray) -> None:
    """Put the arm's joints where they are told, without physics."""
    for name, value in zip(
        ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate"), joints, strict=True
    ):
        STATION.data.joint(f"vx300s_{arm}/{name}").qpos[0] = value
    STATION.restore(STATION.snapshot())


@given(
    arm=st.sampled_from(ARMS),
    x=st.floats(-0.27, 0.05),
    y=st.floats(0.30, 0.75),
    z=st.floats(0.01, 0.20),
    wrist=st.floats(0.0, 3.0),
)
@settings(max_examples=60, deadline=None)
def test_the_gripper_ends_where_inverse_kinematics_puts_it_pointing_down(arm, x, y, z, wrist):
    point = nearest_reachable(arm, np.array([x if arm == "left" else -x, y, z]))
    joints = inverse(arm, point, wrist)
    settle(arm, joints)
    np.testing.assert_allclose(STATION.pinch(arm), point, atol=2e-4)
    forward = STATION.data.body(f"vx300s_{arm}/gripper_link").xmat.reshape(3, 3)[:, 0]
    np.testing.assert_allclose(forward, [0, 0, -1], atol=1e-4)
    columns = [i for i, name in enumerate(ROBOT.joint_names) if name.startswith(arm)][:6]
    assert (joints >= ROBOT.lower[columns]).all() and (joints <= ROBOT.upper[columns]).all()


@given(arm=st.sampled_from(ARMS), y=st.floats(0.4, 0.7), opening=st.floats(-3.0, 3.0))
@settings(max_examples=30, deadline=None)
def test_the_fingers_open_along_the_direction_asked_for(arm, y, opening):
    point = np.array([-0.1 if arm == "left" else 0.1, y, 0.1])
    settle(arm, inverse(arm, point, wrist_for(arm, point, opening)))
    first, second = (STATION.data.geom(f"vx300s_{arm}/{side}_pad").xpos for side in ("left", "right"))
    across = (first - second)[:2] / np.linalg.norm((first - second)[:2])
    assert abs(across @ [np.cos(opening), np.sin(opening)]) == pytest.approx(1.0, abs=1e-4)


@given(arm=st.sampled_from(ARMS), point=st.tuples(*[st.floats(-2, 2)] * 3))
@settings(max_examples=100, deadline=None)
def test_every_point_has_a_reachable_one_near_it(arm, point):
    near = nearest_reachable(arm, np.array(point))
    assert np.isfinite(inverse(arm, near)).all()
    np.testing.assert_allclose(nearest_reachable(arm, near), near, atol=1e-12)


def test_a_point_out_of_reach_is_named():
    with pytest.raises(AloeError, match="out of the left arm's reach"):
        inverse("left", np.array([*(BASE["left"] + 1.0), 0.1]))

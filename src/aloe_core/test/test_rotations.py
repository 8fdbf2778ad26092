"""Quaternions come in ROS order and turn vectors as their angles say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.rotations import quaternion_from_euler

ANGLE = st.floats(-math.pi, math.pi)


def turn(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    axis, w = q[:3], q[3]
    return v + 2 * np.cross(axis, np.cross(axis, v) + w * v)


def test_quarter_turn_about_z_takes_x_to_y():
    q = quaternion_from_euler(0.0, 0.0, math.pi / 2)
    assert q == pytest.approx([0, 0, math.sqrt(0.5), math.sqrt(0.5)])
    assert turn(q, np.array([1.0, 0, 0])) == pytest.approx([0, 1, 0], abs=1e-12)


@given(ANGLE, ANGLE, ANGLE)
def test_fixed_axes_are_applied_x_then_y_then_z(roll, pitch, yaw):
    q = quaternion_from_euler(roll, pitch, yaw)
    v = np.array([0.3, -0.7, 0.5])
    for angles in ((roll, 0, 0), (0, pitch, 0), (0, 0, yaw)):
        v = turn(quaternion_from_euler(*angles), v)
    assert np.linalg.norm(q) == pytest.approx(1.0)
    assert turn(q, np.array([0.3, -0.7, 0.5])) == pytest.approx(v, abs=1e-9)

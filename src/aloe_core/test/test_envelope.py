"""Workspace boxes and arm distance: nothing goes further out, everything can come back, each clamp has its reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_core.contract import load_contract
from aloe_core.kinematics import load_model
from aloe_core.motion import Clamp, Motion, braked
from aloe_core.safety import SafetyFilter
from test_robot_model import contract_file

pytest.importorskip("mujoco")

# The left tip stays at y <= 0.45 and x >= -0.2; the ball slides along x; their surfaces stay 0.1 m apart.
BOX = {"min": [-0.2, -1, -1], "max": [1, 0.45, 1]}
START = np.array([0.0, 0.0, -0.8])
REACH = 0.5 + 1e-9


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    groups = {"left": {"end_effector": "tip", "workspace": BOX}, "right": {"end_effector": "ball"}}
    return load_contract(contract_file(tmp_path_factory.mktemp("robot"), groups=groups, min_distance=0.5))


@pytest.fixture(scope="module")
def model(contract):
    return load_model(contract)


@pytest.fixture
def safety(contract, model):
    return SafetyFilter(contract, model)


def outside(model, q) -> float:
    point = model.points(q)[0]
    return float(np.maximum(np.maximum(np.array(BOX["min"]) - point, point - np.array(BOX["max"])), 0).max())


def test_what_stays_inside_passes_bit_for_bit(safety):
    wanted = START + np.array([0.01, 0.001, 0.01])
    motion, reasons = safety.apply(wanted, safety.rest(START))
    assert reasons is Clamp.NONE
    np.testing.assert_array_equal(motion.position, wanted)


def test_an_arm_stops_at_its_wall_while_the_other_goes_on(safety, model):
    motion, seen = safety.rest(START), Clamp.NONE
    for k in range(120):
        motion, reasons = safety.apply(np.array([1.5, 0.0, -0.8 - 0.001 * k]), motion)
        seen |= reasons
        assert outside(model, motion.position) == 0
    assert Clamp.WORKSPACE in seen and Clamp.DISTANCE not in seen
    assert model.points(motion.position)[0, 1] == pytest.approx(0.45, abs=0.01)  # up to the wall, not far before it
    assert motion.position[2] == pytest.approx(-0.8 - 0.119)


def test_at_the_wall_the_way_back_is_free(safety):
    motion = safety.rest(START)
    for _ in range(60):
        motion, _ = safety.apply(np.array([1.5, 0.0, -0.8]), motion)
    before = motion.position[0]
    for _ in range(20):
        motion, reasons = safety.apply(START, motion)
        assert Clamp.WORKSPACE not in reasons
    assert motion.position[0] < before - 0.3


def test_the_arms_keep_their_distance_and_may_part_again(safety, model):
    motion, seen = safety.rest(START), Clamp.NONE
    for _ in range(150):
        motion, reasons = safety.apply(np.array([0.9, 0.0, 0.4]), motion)
        seen |= reasons
        assert model.distance(motion.position) >= 0.5
    assert Clamp.DISTANCE in seen
    for _ in range(10):
        motion, reasons = safety.apply(START, motion)
        assert Clamp.DISTANCE not in reasons
    assert model.distance(motion.position) > 0.5


def test_a_start_outside_never_goes_further_out_and_comes_back_in(safety, model):
    beyond = np.array([1.4, 0.0, -0.8])  # tip at y = 0.493
    motion = safety.rest(beyond)
    assert outside(model, beyond) > 0
    for _ in range(30):
        motion, reasons = safety.apply(np.array([1.57, 0.0, -0.8]), motion)
        assert Clamp.WORKSPACE in reasons
        assert outside(model, motion.position) <= outside(model, beyond)
    for _ in range(60):
        motion, _ = safety.apply(START, motion)
    np.testing.assert_array_equal(motion.position, START)


moves = st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 0.1), st.floats(-1, 1)), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None)
@given(moves)
def test_no_request_leads_out_or_too_near_or_faster_than_the_joints_may(contract, model, requests):
    safety = SafetyFilter(contract, model)
    motion = safety.rest(START)
    for wanted in requests:
        last = motion
        motion, _ = safety.apply(np.array(wanted), last)
        assert outside(model, motion.position) == 0
        assert model.distance(motion.position) >= 0.5
        assert (np.abs(motion.position - last.position) <= contract.velocity * contract.dt + 1e-9).all()
        assert (np.abs(motion.velocity - last.velocity) <= contract.acceleration * contract.dt + 1e-6).all()
    before = motion.position
    for _ in range(200):
        motion, _ = safety.apply(START, motion)
    moved = np.abs(motion.position - START).max() < np.abs(before - START).max() or np.array_equal(before, START)
    assert moved  # wherever it was led, it is not locked up there


@given(st.floats(-5, 5), st.floats(0.01, 3))
def test_braking_ends_where_the_filter_s_own_braking_does(speed, gain):
    dt, velocity, position = 0.02, speed, 0.0
    expected = braked(Motion(np.zeros(1), np.array([speed]), np.zeros(1)), np.array([gain]), dt)
    while velocity:
        velocity = np.sign(velocity) * max(abs(velocity) - gain, 0.0)
        position += velocity * dt
    assert expected[0] == pytest.approx(position, abs=1e-9)

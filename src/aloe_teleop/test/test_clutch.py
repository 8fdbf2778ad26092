"""Moving an end effector by joint steps: direction, speed and limits, also where the arm is singular or blocked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_core.kinematics import load_model
from aloe_teleop.clutch import Jog, solve

pytest.importorskip("mujoco")

ROBOTS = Path(__file__).parents[3] / "config/robots"
CONTRACTS = {name: load_contract(ROBOTS / f"{name}.yaml") for name in ("aloha_sim", "desk_arm")}
MODELS = {name: load_model(contract) for name, contract in CONTRACTS.items()}
JOGS = {name: Jog(contract, MODELS[name]) for name, contract in CONTRACTS.items()}
DT = 0.02

places = st.lists(st.floats(0, 1), min_size=14, max_size=14).map(np.array)
twists = st.lists(st.floats(-1, 1), min_size=6, max_size=6).map(lambda v: np.array(v) * [0.3, 0.3, 0.3, 2, 2, 2])
arms = st.sampled_from([("aloha_sim", "left"), ("aloha_sim", "right"), ("desk_arm", "arm")])


def at(name: str, place: np.ndarray) -> np.ndarray:
    contract = CONTRACTS[name]
    return contract.lower + place[: contract.action_dim] * (contract.upper - contract.lower)


@given(arms, places, twists, st.floats(-1, 1), st.floats(0, 0.1))
def test_no_joint_exceeds_its_speed_or_its_limits_and_the_other_arm_stays(arm, place, twist, gripper, dt):
    name, group = arm
    contract, q = CONTRACTS[name], at(name, place)
    after = JOGS[name].step(group, q, q, twist, gripper, dt)
    assert (np.abs(after - q) <= contract.velocity * dt + 1e-9).all()
    assert (after >= contract.lower).all() and (after <= contract.upper).all()
    others = contract.group_of != contract.groups.index(group)
    assert (after[others] == q[others]).all()


@given(arms, places, twists)
@example(("aloha_sim", "left"), np.array([0, 1, 0, 0.99999, 0.8125, *[0] * 9]), np.array([0, 0.3, 0, 0, 2, 0]))
def test_the_hand_never_moves_against_the_asked_direction(arm, place, twist):
    name, group = arm
    q = at(name, place)
    moved = JOGS[name].step(group, q, q, twist, 0.0, DT) - q
    velocity = MODELS[name].jacobian(group, q)[:3] @ moved / DT
    assert velocity @ twist[:3] >= -1e-6


def easiest(jacobian: np.ndarray) -> tuple[float, float]:
    """How far an arm [6, n] is from singular: in moving, and in turning while it moves as it likes."""
    _, sizes, right = np.linalg.svd(jacobian[:3])
    rest = np.eye(jacobian.shape[1]) - right[:3].T @ right[:3]
    return sizes[-1], np.linalg.svd(jacobian[3:] @ rest, compute_uv=False)[2]


@given(st.integers(0, 2**32 - 1), twists)
def test_away_from_limits_and_singular_poses_the_hand_moves_exactly_as_asked_or_slower(seed, twist):
    q = at("aloha_sim", 0.1 + 0.8 * np.random.default_rng(seed).random(14))
    jacobian = MODELS["aloha_sim"].jacobian("left", q)
    moving, turning = easiest(jacobian[:, :6])
    assume(moving > 0.06 and turning > 0.25 and np.linalg.norm(twist[:3]) > 0.01)
    done = jacobian @ (JOGS["aloha_sim"].step("left", q, q, twist, 0.0, DT) - q) / DT
    fraction = done[:3] @ twist[:3] / (twist[:3] @ twist[:3])
    assert 0 < fraction <= 1 + 1e-6
    np.testing.assert_allclose(done, fraction * twist, atol=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=36, max_size=36), twists)
def test_joint_speed_is_bounded_for_any_arm(entries, twist):
    velocity = solve(np.array(entries).reshape(6, 6), twist)
    linear, angular = np.linalg.norm(twist[:3]), np.linalg.norm(twist[3:])
    bound = linear / 0.05 + (angular + 6 * linear / 0.05) / 0.2
    assert np.isfinite(velocity).all() and np.linalg.norm(velocity) <= bound + 1e-6


def test_a_stretched_arm_is_neither_stuck_nor_fast():
    contract, jog = CONTRACTS["desk_arm"], JOGS["desk_arm"]
    q = np.array([0.0, 0.6, 0.0, 0.0, 0.0, 0.02])  # elbow straight: outwards is singular
    inward = np.array([0.0, 0.3, 0.0, 0.0, 0.0, 0.0])
    start = MODELS["desk_arm"].points(q)[0]
    for _ in range(50):
        after = jog.step("arm", q, q, inward, 0.0, 0.04)
        assert (np.abs(after - q) <= contract.velocity * 0.04 + 1e-9).all()
        q = after
    assert MODELS["desk_arm"].points(q)[0][1] > start[1] + 0.1


def test_a_straight_line_of_half_a_second_stays_straight_and_keeps_the_hand_upright():
    model, jog = MODELS["aloha_sim"], JOGS["aloha_sim"]
    q = np.zeros(14)
    q[:6] = [0.0, -0.5, 0.5, 0.0, 1.3, 0.0]
    (point, turned) = model.end_effectors(q)["left"]
    for _ in range(25):
        q = jog.step("left", q, q, np.array([0, 0.15, 0, 0, 0, 0]), 0.0, DT)
    (end, turned_at_end) = model.end_effectors(q)["left"]
    np.testing.assert_allclose(end - point, [0, 0.075, 0], atol=2e-3)
    assert abs(turned @ turned_at_end) > np.cos(0.02 / 2)


def test_the_command_does_not_run_away_from_a_robot_that_is_blocked():
    contract, jog = CONTRACTS["aloha_sim"], JOGS["aloha_sim"]
    measured = np.zeros(14)
    measured[:6] = [0.0, -0.6, 0.9, 0.0, -0.3, 0.0]
    command = measured.copy()
    for _ in range(200):
        command = jog.step("left", command, measured, np.array([0, 0, 0.2, 0, 0, 0]), 0.0, DT)
    assert (np.abs(command - measured) <= 0.25 * contract.velocity + 1e-9).all()


def test_the_gripper_moves_between_its_limits():
    jog, q = JOGS["aloha_sim"], np.zeros(14)
    for _ in range(100):
        q = jog.step("right", q, q, np.zeros(6), 0.05, DT)
    assert q[13] == pytest.approx(0.057) and q[:13] == pytest.approx(0.0)


def test_a_contract_without_a_model_is_refused():
    with pytest.raises(AloeError, match="model is missing"):
        Jog(CONTRACTS["aloha_sim"], None)

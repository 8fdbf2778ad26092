"""The safety filter keeps its promises for any request, from any motion it produced itself."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aloe_core.contract import load_contract
from aloe_core.safety import Clamp, Motion, SafetyFilter

CONTRACT = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")
SLOW = CONTRACT.model_copy(
    update={"joints": tuple(j.model_copy(update={"acceleration": 4.0}) for j in CONTRACT.joints)}
)
DT = CONTRACT.dt
MIDDLE = (CONTRACT.lower + CONTRACT.upper) / 2
J = CONTRACT.action_dim

request = arrays(np.float64, J, elements=st.floats(-8, 8))
contracts = st.sampled_from([CONTRACT, SLOW])


def check_limits(contract, motion: Motion, last: Motion) -> None:
    assert (motion.position >= contract.lower).all() and (motion.position <= contract.upper).all()
    assert (np.abs(motion.position - last.position) <= contract.velocity * DT + 1e-9).all()
    assert (np.abs(motion.velocity - last.velocity) <= contract.acceleration * DT + 1e-6).all()
    np.testing.assert_allclose(motion.position, last.position + motion.velocity * DT, atol=2e-9)


@settings(max_examples=60, deadline=None)
@given(contracts, st.lists(request, min_size=1, max_size=40))
def test_every_limit_holds_for_any_sequence_of_requests(contract, requests):
    safety = SafetyFilter(contract)
    motion = safety.rest(MIDDLE)
    for wanted in requests:
        last = motion
        motion, _ = safety.apply(wanted, last)
        check_limits(contract, motion, last)


@settings(max_examples=60, deadline=None)
@given(contracts, st.lists(request, max_size=20), request)
def test_a_steady_request_is_reached_without_swinging_past_it_again(contract, before, goal):
    safety = SafetyFilter(contract)
    motion = safety.rest(MIDDLE)
    for wanted in before:
        motion, _ = safety.apply(wanted, motion)
    target = np.clip(goal, contract.lower, contract.upper)
    crossings = np.zeros(J, dtype=int)
    side = np.sign(motion.position - target)
    for _ in range(400):
        motion, _ = safety.apply(goal, motion)
        now = np.where(
            np.abs(motion.position - target) < 1e-9,
            0,
            np.sign(motion.position - target),
        )
        crossings += (now * side < 0).astype(int)
        side = np.where(now == 0, side, now)
    np.testing.assert_array_equal(motion.position, target)
    assert crossings.max() <= 1  # only the swing that the speed it came with makes unavoidable


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_trajectory_within_the_limits_passes_bit_for_bit(seed):
    rng = np.random.default_rng(seed)
    safety = SafetyFilter(CONTRACT)
    motion, velocity, position = safety.rest(MIDDLE), np.zeros(J), MIDDLE.copy()
    for _ in range(100):
        pull = (MIDDLE - position) * 4 - velocity * 2
        velocity = velocity + np.clip(pull + rng.normal(0, 8, J), -9, 9) * 0.1 * CONTRACT.acceleration / 60 * DT
        velocity = np.clip(velocity, -0.9 * CONTRACT.velocity, 0.9 * CONTRACT.velocity)
        position = np.clip(position + velocity * DT, CONTRACT.lower + 0.002, CONTRACT.upper - 0.002)
        velocity = (position - motion.position) / DT
        motion, reasons = safety.apply(position, motion)
        assert reasons == Clamp.NONE
        np.testing.assert_array_equal(motion.position, position)


def test_a_fast_ramp_is_tracked_without_lag_once_caught_up():
    safety = SafetyFilter(CONTRACT)
    motion = safety.rest(np.zeros(J))
    for k in range(1, 30):
        goal = np.zeros(J)
        goal[0] = 2.5 * DT * k  # five sixths of the velocity limit, from a standing start
        motion, reasons = safety.apply(goal, motion)
        if k > 20:
            assert motion.position[0] == goal[0] and reasons == Clamp.NONE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_request_is_dropped_as_a_whole_and_the_robot_stops(bad):
    safety = SafetyFilter(CONTRACT)
    start = safety.rest(MIDDLE)
    wanted = MIDDLE + 0.01
    wanted[3] = bad
    motion, reasons = safety.apply(wanted, start)
    assert reasons == Clamp.NONFINITE
    np.testing.assert_array_equal(motion.position, MIDDLE)


@pytest.mark.parametrize(
    ("offset", "reasons"),
    [
        (0.02, Clamp.NONE),
        (0.05, Clamp.ACCELERATION),
        (0.5, Clamp.VELOCITY | Clamp.ACCELERATION),
        (9.0, Clamp.POSITION | Clamp.VELOCITY | Clamp.ACCELERATION),
    ],
)
def test_the_reason_names_the_limit_that_was_met(offset, reasons):
    safety = SafetyFilter(CONTRACT)
    wanted = np.zeros(J)
    wanted[0] = offset
    assert safety.apply(wanted, safety.rest(np.zeros(J)))[1] == reasons


def test_a_start_outside_the_limits_is_led_back_inside_at_limited_speed():
    safety = SafetyFilter(CONTRACT)
    motion = safety.rest(CONTRACT.upper + 0.3)
    for _ in range(200):
        last = motion
        motion, _ = safety.apply(CONTRACT.upper + 0.3, last)
        assert (np.abs(motion.position - last.position) <= CONTRACT.velocity * DT + 1e-9).all()
    np.testing.assert_array_equal(motion.position, CONTRACT.upper)


def test_one_tick_costs_far_less_than_the_control_period():
    safety = SafetyFilter(CONTRACT)
    motion = safety.rest(MIDDLE)
    goal = MIDDLE + 0.3
    took = []
    for _ in range(300):
        began = time.perf_counter()
        safety.apply(goal, motion)
        took.append(time.perf_counter() - began)
    assert np.median(took) < 0.02 * DT  # 0.4 ms at 50 Hz; about 0.05 ms is usual

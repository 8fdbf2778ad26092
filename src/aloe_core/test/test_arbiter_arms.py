"""Per-arm takeover: the person holds one joint group, the policy keeps the other."""

import numpy as np
import pytest

from aloe_core.control import AskMode, EstopButton, Mode, Tick
from aloe_core.episode.data import Source
from aloe_core.motion import Clamp
from arbiter_timeline import (
    DT,
    HOME,
    LEFT,
    RIGHT,
    chunk,
    constant,
    driving,
    in_policy,
    released,
    state,
    timer_in_policy,
)

HOLD, POLICY, HUMAN, RESET = Source.HOLD, Source.POLICY, Source.HUMAN, Source.RESET


def test_the_policy_keeps_the_arm_that_the_person_does_not_hold():
    t = in_policy()
    t(constant(0, 0.01))
    change = t(driving(1, 0.02, LEFT)).change
    assert (change.mode, change.cause, change.group_source) == (
        Mode.HUMAN,
        "takeover pressed (left)",
        (HUMAN, POLICY),
    )
    t(state(1))
    step = t(constant(1, 0.03, "fresh")).step
    assert (step.source, step.group_source, step.chunk_id, step.chunk_index) == (HUMAN, (HUMAN, POLICY), "fresh", 0)
    np.testing.assert_allclose(step.requested[LEFT], HOME[LEFT] + 0.02)
    np.testing.assert_allclose(step.requested[RIGHT], HOME[RIGHT] + 0.03, atol=1e-6)


def test_lock_step_waits_for_both_the_person_and_the_policy():
    t = in_policy()
    t(driving(0, 0.0, LEFT))
    assert t(state(0)).step is None
    assert t(chunk(0)).step is not None
    assert t(state(1)).step is None  # the person has not answered
    assert t(driving(1, 0.0, LEFT)).step.chunk_index == 1


def test_the_takeover_of_one_arm_fences_the_chunk_of_both():
    t = in_policy()
    t(chunk(0, "old"))
    t(driving(1, 0.0, RIGHT))
    t(state(1))
    assert t(chunk(0, "old")).step is None
    assert t(chunk(1, "old")).step is None  # the same chunk under a new stamp
    assert t(chunk(1, "new")).step.chunk_id == "new"


@pytest.mark.parametrize(
    ("then", "sources", "cause"),
    [
        (driving(1), (HUMAN, HUMAN), "takeover is now of left, right"),
        (driving(1, 0.0, RIGHT), (POLICY, HUMAN), "takeover is now of right"),
        (released(1), (POLICY, POLICY), "takeover released"),
    ],
)
def test_each_arm_taken_or_given_back_is_a_change_of_its_own_with_one_cause(then, sources, cause):
    t = in_policy()
    t(chunk(0, "old"))
    first = t(driving(1, 0.0, LEFT)).change
    change = t(then).change
    assert (change.group_source, change.cause, change.sequence) == (sources, cause, first.sequence + 1)
    assert t(then).change is None  # said once


def test_the_other_arm_holds_if_the_policy_did_not_drive_before():
    t = in_policy("demonstrate")
    t(AskMode(Mode.HOLD, "pause"))
    t(state(1))
    assert t(driving(2, 0.005, LEFT)).change.group_source == (HUMAN, HOLD)
    step = t(state(2)).step
    assert step.group_source == (HUMAN, HOLD) and step.clamp is Clamp.NONE
    np.testing.assert_array_equal(step.executed[RIGHT], HOME[RIGHT])
    np.testing.assert_allclose(step.executed[LEFT], HOME[LEFT] + 0.005)


def test_on_a_timer_the_other_arm_holds_until_its_fresh_chunk_is_there():
    t = timer_in_policy()
    t(chunk(0))
    t(driving(1, 0.0, LEFT))
    t(state(1), 20)
    step = t(Tick()).step
    assert step.group_source == (HUMAN, HOLD) and Clamp.STALE in step.clamp
    assert t(chunk(1)).step is None
    assert t(Tick()).step.group_source == (HUMAN, POLICY)


def test_an_arm_that_nobody_drives_brakes_within_its_acceleration():
    t = timer_in_policy()
    moving = constant(0, 0.0)
    moving.actions[:] += np.arange(50)[:, None].astype(np.float32) * 0.03  # 1.5 rad/s
    t(moving)
    last, speed = HOME, None
    for k in range(1, 30):
        if k >= 10:
            t(driving(k, 0.0, LEFT))
        t(state(k), 20)
        step = t(Tick()).step
        moved = (step.executed - last)[RIGHT]
        if speed is not None:
            assert (np.abs(moved - speed) <= 60.0 * 0.02**2 + 1e-9).all()
        last, speed = step.executed, moved
    np.testing.assert_allclose(moved, 0, atol=1e-12)


def test_estop_takes_both_arms():
    t = in_policy()
    t(driving(0, 0.0, LEFT))
    assert t(EstopButton(True)).change.group_source == (HOLD, HOLD)
    assert t(state(1)).step.group_source == (HOLD, HOLD)


def test_a_takeover_that_names_no_joint_holds_everything():
    t = in_policy()
    change = t(driving(0, 0.0, np.zeros(0, dtype=np.intp))).change
    assert change.group_source == (HUMAN, HUMAN) and change.stamp == 0 * DT

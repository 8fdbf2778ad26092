"""Timelines: time and events in, the expected decision at each step."""

import numpy as np
import pytest

from aloe_core.control import (
    TRANSITIONS,
    AskMode,
    EstopButton,
    Mode,
    ResetEstop,
    TaskInfo,
    Teleop,
    Tick,
    Trigger,
)
from aloe_core.episode.data import Source
from aloe_core.safety import Clamp
from aloe_core.types import Chunk
from arbiter_timeline import (
    ALL,
    CONTRACT,
    DT,
    HOME,
    J,
    Timeline,
    chunk,
    driving,
    in_policy,
    released,
    state,
    timer_in_policy,
)

# --- lock-step ---------------------------------------------------------------------------------------------------


def test_hold_answers_at_once_with_the_held_position_and_reset_answers_nothing():
    t = Timeline(start=Mode.HOLD)
    step = t(state(0)).step
    assert step.source is Source.HOLD and step.requested is None and step.stamp == 0
    np.testing.assert_array_equal(step.executed, HOME)
    assert t(AskMode(Mode.RESET, "next episode")).change.mode is Mode.RESET
    assert t(state(1)).step is None


def test_reset_to_policy_answers_the_reset_state_with_row_0_and_no_hold_between():
    t = Timeline(start=Mode.RESET)
    t(TaskInfo("e1", "watch"))
    assert t(state(100)).step is None
    decision = t(AskMode(Mode.POLICY, "episode begins"))
    assert decision.change.stamp == 100 * DT and decision.step is None
    step = t(chunk(100)).step
    assert (step.source, step.chunk_index, step.tick, step.episode_id) == (Source.POLICY, 0, 0, "e1")


def test_policy_waits_for_a_chunk_and_never_runs_past_execute():
    t = in_policy()
    assert t().step is None
    t(chunk(0, execute=3))
    for k in (1, 2):
        step = t(state(k)).step
        assert (step.chunk_index, step.tick) == (k, k)
    assert t(state(3)).step is None
    step = t(chunk(3)).step
    assert (step.chunk_id, step.chunk_index, step.stamp) == ("chunk@3", 0, 3 * DT)


def test_waiting_is_bounded_counted_and_flagged():
    t = in_policy()
    assert t(ms=19_999).step is None
    step = t(ms=1).step
    assert step.source is Source.HOLD and step.clamp & Clamp.STALE
    assert t.arbiter.counts.timeouts == 1
    assert t(ms=39_999).step is None  # answered exactly once


def test_takeover_fences_the_chunk_that_was_running():
    t = in_policy()
    t(chunk(0, "old"))
    t(state(1))
    decision = t(driving(2))
    assert (decision.change.mode, decision.change.cause) == (Mode.HUMAN, "takeover pressed")
    step = t(state(2)).step
    assert (step.source, step.chunk_id, step.chunk_index) == (Source.HUMAN, "", -1)
    decision = t(released(2))
    assert decision.change.mode is Mode.POLICY
    assert t(state(3)).step is None
    assert t(chunk(0, "old")).step is None
    assert t(chunk(2, "before the hand-back was acted on")).step is None
    assert t(chunk(3, "fresh")).step.chunk_id == "fresh"
    assert t.arbiter.counts.fenced == 2


def test_human_waits_for_a_command_that_answers_this_state():
    t = in_policy()
    t(driving(0))
    assert t(state(1)).step is None
    assert t(driving(0)).step is None
    step = t(driving(1, 0.01)).step
    assert step.stamp == DT
    np.testing.assert_array_equal(step.requested, HOME + 0.01)


def test_release_while_a_state_waits_hands_that_state_to_the_policy():
    t = in_policy()
    t(driving(0))
    t(state(1))
    decision = t(released(0))
    assert decision.change.stamp == DT  # a chunk observed at the waiting state is fresh
    assert t(chunk(1)).step.chunk_index == 0


@pytest.mark.parametrize(
    ("supervision", "after"), [("supervise", Mode.POLICY), ("watch", Mode.POLICY), ("demonstrate", Mode.HOLD)]
)
def test_release_goes_back_to_policy_except_under_demonstrate(supervision, after):
    t = in_policy(supervision)
    t(driving(0))
    t(released(0))
    assert t.mode is after


def test_release_outside_an_episode_returns_to_policy_only_if_the_policy_drove_before():
    t = Timeline()
    t(state(0))
    t(driving(0))
    t(released(0))
    assert t.mode is Mode.HOLD
    t(AskMode(Mode.POLICY, "try"))
    t(driving(0))
    t(released(0))
    assert t.mode is Mode.POLICY


def test_under_demonstrate_the_takeover_ends_reset_with_no_hold_step():
    t = Timeline(start=Mode.RESET)
    t(TaskInfo("e1", "demonstrate"))
    assert t(state(50)).step is None
    decision = t(driving(50, 0.001))
    assert decision.change.previous is Mode.RESET
    assert (decision.step.source, decision.step.tick, decision.step.stamp) == (Source.HUMAN, 0, 50 * DT)


def test_a_joint_of_a_held_arm_that_the_person_does_not_drive_keeps_its_command():
    t = in_policy("demonstrate")
    step = t(Teleop(0, True, np.array([2, 0]), np.array([HOME[2] + 0.01, HOME[0] - 0.01]))).step
    expected = HOME.copy()
    expected[[2, 0]] += (0.01, -0.01)
    np.testing.assert_array_equal(step.requested, expected)


def test_a_non_finite_command_of_a_person_is_dropped_and_counted():
    t = in_policy()
    step = t(Teleop(0, True, ALL, np.full(J, np.nan))).step
    assert step.source is Source.HUMAN and step.clamp & Clamp.NONFINITE
    np.testing.assert_array_equal(step.executed, HOME)
    assert t.arbiter.counts.nonfinite == 1


def test_a_new_start_state_after_reset_is_where_the_next_motion_begins():
    t = in_policy()
    t(chunk(0))
    t(AskMode(Mode.RESET, "episode ended"))
    t(state(100, HOME + 0.02))
    t(TaskInfo("e2", "watch"))
    t(AskMode(Mode.POLICY, "episode begins"))
    actions = np.tile((HOME + 0.02).astype(np.float32), (50, 1))
    step = t(Chunk("next", 100 * DT, CONTRACT.dt, actions, 25, "v1")).step
    assert (step.tick, step.episode_id, step.clamp) == (0, "e2", Clamp.NONE)
    np.testing.assert_allclose(step.executed, HOME + 0.02, atol=1e-6)


def test_time_going_backwards_drops_chunks_and_motion():
    t = in_policy()
    t(state(1000))
    t(chunk(1000))
    assert t(state(5, HOME + 0.1)).step is None
    assert t(chunk(5)).step.chunk_id == "chunk@5"


# --- e-stop ------------------------------------------------------------------------------------------------------


def test_estop_beats_the_person_latches_and_needs_every_input_released():
    t = in_policy()
    t(driving(0))
    decision = t(EstopButton(True))
    assert (decision.change.mode, decision.change.cause) == (Mode.ESTOP, "e-stop button pressed")
    assert t(state(1)).step.source is Source.HOLD
    assert t(driving(1)).change is None
    for mode in (Mode.HOLD, Mode.POLICY, Mode.RESET):
        assert "e-stop is latched" in t(AskMode(mode, "please")).refusal
    assert "e-stop button is still held" in t(ResetEstop()).refusal
    assert t(EstopButton(False)).change is None
    assert t.mode is Mode.ESTOP
    assert "dead-man is still held" in t(ResetEstop()).refusal
    t(released(1))
    assert t.mode is Mode.ESTOP
    assert t(ResetEstop()).change.mode is Mode.HOLD


def test_estop_holds_the_measured_position_within_the_limits_of_motion():
    t = in_policy()
    t(chunk(0))
    t(state(1, HOME - 0.05))
    decision = t(AskMode(Mode.ESTOP, "operator"))
    assert decision.change.cause == "operator"
    last = None
    for k in range(2, 30):
        step = t(state(k, HOME - 0.05)).step
        if last is not None:
            assert (np.abs(step.executed - last) <= CONTRACT.velocity * CONTRACT.dt + 1e-9).all()
        last = step.executed
    np.testing.assert_allclose(last, np.clip(HOME - 0.05, CONTRACT.lower, CONTRACT.upper), atol=1e-12)


def test_hold_keeps_the_command_so_that_a_grip_stays_closed():
    t = in_policy()
    t(chunk(0))
    for k in range(1, 4):
        command = t(state(k)).step.executed
    t(AskMode(Mode.HOLD, "pause"))
    measured_elsewhere = command + 0.01
    np.testing.assert_allclose(t(state(4, measured_elsewhere)).step.executed, command, atol=1e-12)


def test_estop_is_granted_by_request_in_every_mode_and_only_once():
    for start in Mode:
        t = Timeline(start=start)
        change = t(AskMode(Mode.ESTOP, "test")).change
        assert t.mode is Mode.ESTOP
        assert (change is None) == (start is Mode.ESTOP)


# --- requests ----------------------------------------------------------------------------------------------------


def test_policy_is_refused_while_a_person_drives_but_the_episode_may_end():
    t = in_policy()
    t(driving(0))
    assert "a person is driving" in t(AskMode(Mode.POLICY, "mine")).refusal
    assert t(AskMode(Mode.RESET, "time limit")).change.mode is Mode.RESET
    assert t(driving(1)).change is None  # still held is not a new press
    t(released(1))
    assert t.mode is Mode.RESET
    assert t(driving(2)).change.mode is Mode.HUMAN


def test_human_cannot_be_requested_and_asking_for_the_present_mode_changes_nothing():
    t = Timeline()
    assert "press the dead-man" in t(AskMode(Mode.HUMAN, "x")).refusal
    decision = t(AskMode(Mode.HOLD, "x"))
    assert decision.change is None and decision.refusal == ""


def test_a_request_for_one_mode_only_is_beside_the_point_in_any_other():
    """A lost input asks for HOLD; in RESET something else moves the robot, and the arbiter must not begin to."""
    lost = AskMode(Mode.HOLD, "the leader is lost", only_in=Mode.HUMAN)
    for start in (Mode.RESET, Mode.POLICY, Mode.HOLD, Mode.ESTOP):
        t = Timeline(start=start)
        decision = t(lost)
        assert decision.change is None and decision.refusal == "" and t.mode is start
    t = in_policy()
    t(driving(0))
    assert t(lost).change.mode is Mode.HOLD
    t = Timeline(start=Mode.RESET)
    assert t(AskMode(Mode.ESTOP, "stop", only_in=Mode.HUMAN)).change.mode is Mode.ESTOP, "an e-stop is always granted"


def test_changes_are_numbered_and_carry_one_cause():
    t = Timeline()
    causes = [t(AskMode(Mode.RESET, "a")).change, t(AskMode(Mode.POLICY, "b")).change, t(driving(0)).change]
    assert [(c.sequence, c.cause) for c in causes] == [(1, "a"), (2, "b"), (3, "takeover pressed")]


def test_every_mode_can_be_stopped_and_only_a_reset_leaves_the_estop():
    assert all(TRANSITIONS[mode, Trigger.ESTOP] is Mode.ESTOP for mode in Mode if mode is not Mode.ESTOP)
    assert {t for (mode, t) in TRANSITIONS if mode is Mode.ESTOP} == {Trigger.ESTOP_RESET}


# --- timer -------------------------------------------------------------------------------------------------------


def test_the_timer_answers_only_ticks_and_holds_until_a_chunk_is_there():
    t = timer_in_policy()
    step = t(Tick()).step
    assert step.source is Source.HOLD and step.clamp & Clamp.STALE and t.arbiter.counts.stale == 1
    t(state(1), 20)
    assert t(chunk(1)).step is None
    assert t(Tick()).step.chunk_index == 0


def test_a_late_chunk_is_spliced_by_time_and_may_run_past_execute():
    t = timer_in_policy()
    rows = []
    t(chunk(0))
    for k in range(1, 40):
        t(state(k), 20)
        if k == 33:
            t(chunk(28, "next"))  # five steps of latency
        step = t(Tick()).step
        rows.append((step.chunk_id, step.chunk_index))
    assert rows[:32] == [("chunk@0", k) for k in range(1, 33)]
    assert rows[32:] == [("next", k - 28) for k in range(33, 40)]


def test_a_chunk_runs_out_at_its_horizon_or_its_age_and_then_holds():
    t = timer_in_policy()
    t(chunk(0))
    sources = []
    for k in range(1, 80):
        t(state(k), 20)
        sources.append(t(Tick()).step.source)
    assert sources == [Source.POLICY] * 49 + [Source.HOLD] * 30
    t = timer_in_policy()
    t(chunk(0, rows=200))
    for k in range(1, 80):
        t(state(k), 20)
        assert (t(Tick()).step.source is Source.POLICY) == (k <= 75)  # staleness.chunk = 1.5 s


def test_a_silent_robot_fails_closed_and_rows_follow_time_between_states():
    t = timer_in_policy()
    t(chunk(0))
    assert t(Tick(), 40).step.chunk_index == 2
    step = t(Tick(), 61).step  # the joint state is 101 ms old
    assert step.source is Source.HOLD and step.clamp & Clamp.STALE
    t(state(6), 20)
    assert t(Tick()).step.chunk_index == 6


def test_lost_teleop_commands_hold_and_need_a_new_press():
    t = timer_in_policy()
    assert t(driving(0)).change.mode is Mode.HUMAN
    for k in range(1, 5):
        t(state(k), 20)
        assert t(Tick()).step.source is Source.HUMAN
    t(state(6), 21)
    decision = t(Tick())
    assert (decision.change.mode, decision.change.cause) == (Mode.HOLD, "teleop commands stopped")
    assert decision.step.source is Source.HOLD
    assert t(driving(7)).change is None
    t(released(7))
    assert t(driving(8)).change.mode is Mode.HUMAN


def test_a_timer_without_any_joint_state_commands_nothing():
    assert Timeline(lockstep=False)(Tick()).step is None

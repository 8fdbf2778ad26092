"""Hand-back without a bump, and what happens when the policy's next chunk is late."""

import numpy as np
import pytest

from aloe_core.control import AskMode, EstopButton, LateChunk, Mode, ResetEstop, Tick
from aloe_core.episode.data import Source
from aloe_core.motion import Clamp
from arbiter_timeline import (
    CONTRACT,
    HOME,
    LEFT,
    Timeline,
    chunk,
    constant,
    driving,
    in_policy,
    released,
    state,
    timer_in_policy,
)

BLEND = round(CONTRACT.control.blend / CONTRACT.dt)


def hand_back(offset: float) -> list:
    """Steps of a policy that asks for HOME + offset, after a person held HOME."""
    t = in_policy()
    t(driving(0))
    t(released(0))
    t(state(1))
    return [t(constant(1, offset)).step, *(t(state(k)).step for k in range(2, 25))]


def test_after_a_hand_back_the_command_goes_over_to_the_chunk_in_the_contract_s_time():
    steps = hand_back(0.1)
    weights = np.array([(step.executed[0] - HOME[0]) / 0.1 for step in steps])
    assert (np.diff(weights) >= -1e-9).all() and weights[0] < 0.1
    blended = [Clamp.BLENDED in step.clamp for step in steps]
    assert blended == [True] * BLEND + [False] * (24 - BLEND)
    np.testing.assert_allclose(weights[BLEND:], 1.0, atol=1e-5)
    np.testing.assert_allclose(steps[0].requested, HOME + 0.1, atol=1e-6)


def test_a_blend_never_exceeds_the_limits_of_motion():
    last, speed = HOME, np.zeros_like(HOME)
    for step in hand_back(0.9):
        moved = step.executed - last
        assert (np.abs(moved) <= CONTRACT.velocity * CONTRACT.dt + 1e-9).all()
        assert (np.abs(moved - speed) <= CONTRACT.acceleration * CONTRACT.dt**2 + 1e-9).all()
        last, speed = step.executed, moved


def test_an_episode_that_begins_after_a_reset_is_not_blended():
    t = in_policy()
    step = t(constant(0, 0.005)).step
    assert step.clamp is Clamp.NONE
    np.testing.assert_allclose(step.executed, HOME + 0.005, atol=1e-6)


def test_hand_back_needs_an_observation_made_after_it_and_a_chunk_made_from_that():
    t = timer_in_policy()
    t(chunk(0))
    t(driving(0))
    t(state(1), 20)
    assert t(Tick()).step.source is Source.HUMAN
    t(released(1))
    for old in (chunk(0), chunk(1)):  # observed before the release was acted on
        t(old)
        assert t(Tick()).step.source is Source.HOLD
    t(state(2), 20)
    t(chunk(2))
    assert t(Tick()).step.source is Source.POLICY


def test_an_overtaken_joint_state_is_dropped_and_moves_nothing():
    t = timer_in_policy()
    t(constant(0, 0.05))
    for k in range(1, 10):
        t(state(k), 20)
        before = t(Tick()).step.executed
    t(state(7, HOME - 0.5))
    step = t(Tick()).step
    assert t.arbiter.counts.old_states == 1 and step.stamp == 9 * 20_000_000
    assert (np.abs(step.executed - before) <= CONTRACT.velocity * CONTRACT.dt + 1e-9).all()


def test_a_clock_that_restarts_under_a_timer_fences_chunks_and_keeps_the_command():
    t = timer_in_policy()
    t(state(1000))
    t(constant(1000, 0.05))
    for k in range(1001, 1020):
        t(state(k), 20)
        before = t(Tick()).step.executed
    t(state(3, HOME - 0.5), 20)
    step = t(Tick()).step
    assert step.source is Source.HOLD
    assert (np.abs(step.executed - before) <= CONTRACT.velocity * CONTRACT.dt + 1e-9).all()


# --- late chunks -------------------------------------------------------------------------------------------------


def test_slow_plays_the_rows_past_execute_ever_slower_and_never_backwards():
    t = timer_in_policy(late_chunk=LateChunk.SLOW)
    t(chunk(0, rows=50, execute=25))
    rows, moved, last = [], [], None
    for k in range(1, 76):
        t(state(k), 20)
        step = t(Tick()).step
        assert (Clamp.SLOWED in step.clamp) == (k >= 25)
        rows.append(step.chunk_index)
        if last is not None:
            moved.append(step.requested[0] - last)
        last = step.requested[0]
    assert rows == sorted(rows) and rows[-1] < 50
    assert max(moved[24:]) <= 1e-4 + 1e-6 and min(moved) >= -1e-6
    assert moved[-1] < 0.2e-4 < moved[25]
    assert t.arbiter.counts.late_chunks == 1
    t(state(76), 20)
    assert t(Tick()).step.source is Source.HOLD  # staleness.chunk


def test_stop_latches_holds_the_measured_position_and_needs_a_request():
    t = timer_in_policy(late_chunk=LateChunk.STOP)
    t(chunk(0))
    for k in range(1, 50):
        t(state(k), 20)
        assert t(Tick()).step.source is Source.POLICY
    t(state(50, HOME - 0.01), 20)
    decision = t(Tick())
    assert (decision.change.mode, decision.change.cause) == (Mode.HOLD, "the policy's next chunk is late")
    t(chunk(50))
    for k in range(51, 80):
        t(state(k, HOME - 0.01), 20)
        step = t(Tick()).step
        assert step.source is Source.HOLD
    np.testing.assert_allclose(step.executed, np.clip(HOME - 0.01, CONTRACT.lower, CONTRACT.upper))
    t(driving(80))
    assert t(released(80)).change.mode is Mode.HOLD  # no way around the request
    assert t(AskMode(Mode.POLICY, "go on")).change.mode is Mode.POLICY


def test_stop_gives_the_first_chunk_the_time_that_the_contract_allows():
    t = timer_in_policy(late_chunk=LateChunk.STOP)
    for k in range(1, 76):
        t(state(k), 20)
        assert t(Tick()).change is None
    t(state(76), 20)
    assert t(Tick()).change.mode is Mode.HOLD


def test_stop_with_one_arm_held_stops_only_the_policy_s():
    t = timer_in_policy(late_chunk=LateChunk.STOP)
    t(driving(0, 0.0, LEFT))
    changes = []
    for k in range(1, 80):
        t(state(k), 20)
        t(driving(k, 0.0, LEFT))
        changes.append(t(Tick()).change)
    (change,) = filter(None, changes)
    assert (change.mode, change.group_source) == (Mode.HUMAN, (Source.HUMAN, Source.HOLD))
    assert t(released(80)).change.mode is Mode.HOLD


def test_stop_in_lock_step_follows_the_time_out():
    t = in_policy(late_chunk=LateChunk.STOP)
    assert t(ms=19_999).change is None
    decision = t(ms=1)
    assert decision.change.mode is Mode.HOLD and decision.step.source is Source.HOLD
    assert t.arbiter.counts.timeouts == 1


def test_every_reason_is_counted_by_tick():
    t = Timeline(lockstep=False)
    t(state(0))
    t(driving(0, 9.0))
    for k in range(1, 4):
        t(state(k), 20)
        t(Tick())
    clamps = t.arbiter.counts.clamps
    assert clamps[Clamp.POSITION] == 3 and clamps[Clamp.VELOCITY] == 3 and clamps[Clamp.STALE] == 0
    assert all(reason.bit_count() == 1 for reason in clamps)


@pytest.mark.parametrize("held", [(True, False), (False, True)])
def test_reset_of_the_estop_is_refused_while_a_button_is_held(held):
    t = Timeline()
    t(EstopButton(True))
    t(EstopButton(*held))
    assert "refused" in t(ResetEstop()).refusal and t.mode is Mode.ESTOP
    t(EstopButton(False, False))
    assert t(ResetEstop()).change.mode is Mode.HOLD

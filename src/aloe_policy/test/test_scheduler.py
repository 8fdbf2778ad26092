import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_core.episode.data import Source
from aloe_core.types import Chunk
from aloe_policy.scheduler import ChunkScheduler, Latency
from aloe_policy.splice import SpliceLog
from tiny_policy import CONTRACT, tiny_contract

DT = 20_000_000  # ns
STATE = np.zeros(2, np.float32)


class Robot:
    """Drives a scheduler as the graph does; time in control steps."""

    def __init__(self, lockstep=True, **changes):
        self.scheduler = ChunkScheduler(tiny_contract(**changes), lockstep, frame_timeout=2.0)
        self.sequence = 0
        self.now = 0

    def task(self, episode="e1", seed=7):
        self.scheduler.on_task(episode, "sort", seed)
        return self

    def policy(self, driving=True, fence=0):
        self.sequence += 1
        self.scheduler.on_mode(driving, self.sequence, fence * DT)
        return self

    def joints(self, step, clock=0.0):
        self.now = step * DT
        self.scheduler.on_joint_state(step * DT, STATE, clock)
        return self

    def frames(self, step, *cameras):
        for camera in cameras or ("front", "wrist"):
            self.scheduler.on_frame(camera, step * DT, b"%d" % step)
        return self

    def executed(self, step, chunk_id="", source=Source.POLICY, episode="e1"):
        self.scheduler.on_executed(step * DT, source, chunk_id, episode)
        return self

    def request(self, clock=0.0, late=0.0):
        return self.scheduler.next_request(self.now + round(late * 1e9), clock)

    def answer(self, request, clock=0.0):
        chunk = Chunk(f"c{request.stamp}", request.stamp, 0.02, np.zeros((8, 2), np.float32), 4, "v1")
        return self.scheduler.on_chunk(request, chunk, clock)


@pytest.mark.parametrize("order", ["mode last", "joints last", "frames last", "task last"])
def test_the_first_chunk_starts_from_the_pending_joint_state_in_whatever_order_messages_come(order):
    robot = Robot()
    parts = {
        "mode last": robot.policy,
        "joints last": lambda: robot.joints(10),
        "frames last": lambda: robot.frames(10),
        "task last": robot.task,
    }
    for name, part in parts.items():
        if name != order:
            part()
            assert robot.request() is None
    parts[order]()
    request = robot.request()
    assert (request.stamp, request.chunk_number, request.seed) == (10 * DT, 0, 7)
    assert robot.request() is None, "one request for one joint state"


def test_the_next_chunk_starts_from_the_joint_state_after_the_last_executed_row():
    robot = Robot().task().frames(0).joints(0).policy()
    assert robot.answer(robot.request())
    for step in (1, 2, 3):
        robot.executed(step - 1, "c0").joints(step)
        assert robot.request() is None
    robot.executed(3, "c0").joints(4)
    request = robot.request()
    assert (request.stamp, request.chunk_number) == (4 * DT, 1)


def test_a_joint_state_that_was_already_answered_is_not_inferred_from():
    robot = Robot().task().frames(5).joints(5).executed(5, source=Source.HUMAN).policy()
    assert robot.request() is None
    robot.joints(6)
    assert robot.request().stamp == 6 * DT


def test_observations_before_the_mode_change_do_not_count():
    robot = Robot().task().frames(5).joints(6).policy(fence=7)  # the executed step of 6 is not seen yet
    assert robot.request() is None
    robot.joints(7)
    assert robot.request().stamp == 7 * DT


def test_lockstep_waits_for_the_frame_that_is_due_and_says_so_after_a_while():
    robot = Robot().task().frames(0).joints(5, clock=100.0).policy()  # frames every 5 steps: the one of step 5 is due
    assert robot.request(clock=100.1) is None
    assert robot.scheduler.problem is None
    assert robot.request(clock=102.5) is None
    assert robot.scheduler.problem.startswith("camera front: newest frame is one 0.100 s old: expected one less than")
    robot.frames(5, "front")
    assert robot.request(clock=102.6) is None
    assert "camera wrist" in robot.scheduler.problem
    robot.frames(5, "wrist")
    assert robot.request(clock=102.7).jpegs == {"front": b"5", "wrist": b"5"}
    assert robot.scheduler.problem is None


def test_a_camera_off_the_control_grid_is_waited_for_at_its_own_steps():
    cameras = [camera | {"rate_hz": 20} for camera in CONTRACT["cameras"]]  # every 2 steps at 50 Hz
    robot = Robot(cameras=cameras).task().frames(0).joints(2).policy()
    assert robot.request() is None
    assert robot.frames(2).request().jpegs["front"] == b"2"


def test_lockstep_uses_the_newest_frame_that_is_not_later_than_the_joint_state():
    robot = Robot().task().frames(0).frames(5).joints(4).policy()
    assert robot.request().jpegs == {"front": b"0", "wrist": b"0"}


def test_a_mode_change_drops_the_chunk_in_flight_even_if_its_message_is_seen_late():
    robot = Robot().task().frames(0).joints(0).policy()
    request = robot.request()
    robot.sequence += 1  # HUMAN in between was overwritten in the latched topic
    robot.policy()
    assert not robot.answer(request)
    assert robot.request().stamp == 0


def test_nothing_is_requested_outside_policy():
    robot = Robot().task().frames(0).joints(0)
    assert robot.request() is None
    robot.policy().policy(driving=False)
    assert robot.request() is None


def test_a_repeated_mode_message_changes_nothing():
    robot = Robot().task().frames(0).joints(0).policy()
    request = robot.request()
    robot.scheduler.on_mode(True, robot.sequence, 0)
    assert robot.answer(request)


def test_a_chunk_the_arbiter_does_not_run_is_inferred_anew():
    robot = Robot().task().frames(0).joints(0).policy()
    robot.answer(robot.request())
    robot.executed(0, source=Source.HOLD).joints(1)
    robot.executed(1, source=Source.HOLD).joints(2)
    assert robot.request().stamp == 2 * DT


def test_a_hold_answered_while_the_chunk_was_still_inferred_does_not_count_against_it():
    robot = Robot().task().frames(0).joints(0).policy()
    request = robot.request()
    robot.joints(1)
    robot.answer(request)
    robot.executed(0, source=Source.HOLD).executed(1, source=Source.HOLD).joints(2)
    assert robot.request() is None
    robot.executed(2, source=Source.HOLD).joints(3)
    assert robot.request().stamp == 3 * DT


def test_a_failed_inference_is_tried_again_only_from_a_later_joint_state():
    robot = Robot().task().frames(0).joints(0).policy()
    robot.scheduler.on_failure(robot.request(), "inference failed: too dark")
    assert robot.request() is None
    assert robot.scheduler.problem == "inference failed: too dark"
    robot.joints(1)
    assert robot.request().stamp == DT


def test_a_joint_state_beyond_the_chunk_replaces_the_request_in_flight():
    robot = Robot().task().frames(0).joints(0).policy()
    old = robot.request()
    robot.frames(50).joints(50)  # the station was reset meanwhile
    new = robot.request()
    assert new.stamp == 50 * DT
    assert not robot.answer(old)
    assert robot.answer(new)


def test_only_chunks_of_this_episode_that_ran_are_counted():
    robot = Robot().task().frames(0).joints(0).policy()
    robot.answer(robot.request())
    robot.policy(driving=False).executed(0, "c0").executed(1, "c0").joints(2).policy()
    assert robot.request().chunk_number == 1
    robot.policy(driving=False).task("e2", seed=8).executed(2, "late", episode="e1").joints(3).policy()
    request = robot.request()
    assert (request.chunk_number, request.seed) == (0, 8)


def test_time_going_back_forgets_what_was_seen():
    robot = Robot().task().frames(100).joints(100).policy()
    robot.answer(robot.request())
    robot.executed(100, "c2000000000").joints(0)
    assert robot.request() is None, "the frames of the old time are gone"
    robot.frames(0)
    assert robot.request().stamp == 0


def test_on_a_robot_the_next_chunk_is_requested_early_by_the_measured_latency():
    robot = Robot(lockstep=False).task().frames(0).joints(0).policy()
    robot.answer(robot.request(), clock=0.03)  # 30 ms: with one period of margin, 50 ms before row 4 at 80 ms
    robot.joints(1)
    assert robot.request() is None
    robot.joints(2)
    assert robot.request().stamp == 2 * DT


def test_on_a_robot_the_next_chunk_is_made_from_a_joint_state_that_has_just_come():
    robot = Robot(lockstep=False).task().policy().joints(0, clock=0.0).frames(0)
    robot.answer(robot.request(), clock=0.0)  # latency 0: 3 of 4 rows later the next one is due
    robot.joints(2, clock=0.04).executed(2, "c0")
    assert robot.request(clock=0.062, late=0.022) is None, "due by now, but the joint state of now is on its way"
    assert robot.joints(3, clock=0.063).request(clock=0.063, late=0.003).stamp == 3 * DT


def test_on_a_robot_a_joint_state_that_does_not_come_is_not_waited_for():
    robot = Robot(lockstep=False).task().policy().joints(0, clock=0.0).frames(0)
    robot.answer(robot.request(), clock=0.0)
    robot.joints(2, clock=0.04)
    assert robot.request(clock=0.065, late=0.025) is None
    assert robot.request(clock=0.075, late=0.035).stamp == 2 * DT


@pytest.mark.parametrize(
    ("late", "says"),
    [
        (0.15, "joint state is 0.150 s old: expected at most 0.1"),
        (0.05, "camera front: newest frame is one 0.350 s old"),
    ],
)
def test_on_a_robot_stale_input_fails_closed(late, says):
    robot = Robot(lockstep=False).task().frames(0).joints(15).policy()
    assert robot.request(late=late) is None
    assert robot.scheduler.problem.startswith(says)


def test_on_a_robot_one_inference_runs_at_a_time():
    robot = Robot(lockstep=False).task().frames(0).joints(0).policy()
    assert robot.request() is not None
    robot.joints(1)
    assert robot.request() is None


def steady(robot, latency, execute=4):
    """Let a first chunk of 8 rows, observed at step 0, arrive `latency` s later; return the next request."""
    robot.task().frames(0).joints(0).policy()
    request = robot.request()
    chunk = Chunk("c0", 0, 0.02, np.zeros((8, 2), np.float32), execute, "v1")
    robot.scheduler.on_chunk(request, chunk, latency, round(latency * 1e9))
    for step in range(1, 8):
        robot.joints(step).frames(step)
        if request := robot.request():
            return request
    raise AssertionError("no request")


def test_a_request_carries_what_is_left_of_the_chunk_that_runs():
    request = steady(Robot(lockstep=False), 0.03)
    assert (request.stamp, request.delay, request.due) == (2 * DT, 2, 2)
    assert request.plan.frozen == 2 and len(request.plan.actions) == 6
    assert request.previous.chunk_id == "c0"


def test_in_lockstep_nothing_will_have_run_meanwhile():
    robot = Robot().task().frames(0).joints(0).policy()
    robot.answer(robot.request(), clock=0.2)
    robot.executed(3, "c0").joints(4)
    request = robot.request()
    assert request.plan.frozen == request.delay == 0 and len(request.plan.actions) == 4


def test_a_mode_change_leaves_no_plan():
    robot = Robot(lockstep=False)
    steady(robot, 0.03)
    robot.policy()
    assert robot.joints(9).frames(9).request().plan is None


def test_chunks_that_take_over_half_the_horizon_are_warned_of():
    robot = Robot(lockstep=False)
    steady(robot, 0.08)
    assert robot.scheduler.warning is None
    robot.scheduler.latency.add(1.0)
    assert robot.scheduler.warning.startswith("chunks take 32 control steps: expected at most 4, half of the horizon")


def test_a_policy_that_drives_but_hears_no_joint_state_or_task_says_so():
    robot = Robot(lockstep=False)
    assert robot.scheduler.warning is None
    robot.policy()
    assert "no joint state has come" in robot.scheduler.warning
    robot.joints(0)
    assert "no task has come" in robot.scheduler.warning
    robot.task()
    assert robot.scheduler.warning is None


def test_a_late_chunk_is_counted_and_the_jump_at_the_splice_measured():
    robot = Robot(lockstep=False)
    request = steady(robot, 0.03)
    actions = np.full((8, 2), 0.25, np.float32)
    late = Chunk("c1", request.stamp, 0.02, actions, 4, "v1", frozen_steps=2)
    robot.scheduler.on_chunk(request, late, 0.1, request.stamp + 45_000_000)
    splices = robot.scheduler.splices
    assert (splices.delay, splices.frozen, splices.missed) == (3, 2, 1)
    assert splices.jump == pytest.approx(0.25) and splices.age == pytest.approx(0.045)


def test_a_chunk_that_comes_when_the_robot_holds_already_is_late_too():
    robot = Robot(lockstep=False)
    request = steady(robot, 0.03)
    robot.joints(9).executed(9, source=Source.HOLD)
    robot.scheduler.on_chunk(
        request, Chunk("c1", request.stamp, 0.02, np.ones((8, 2), np.float32), 4, "v1"), 0.2, 9 * DT
    )
    assert robot.scheduler.splices.missed == 1 and robot.scheduler.splices.jump is None


def test_a_first_chunk_misses_no_deadline():
    log = SpliceLog()
    log.see(Chunk("c", 0, 0.02, np.zeros((8, 2), np.float32), 4, "v1"), None, 0, 200_000_000)
    assert (log.missed, log.jump, log.delay) == (0, None, 10)


def test_a_bare_start_expects_no_latency_and_learns_it():
    latency = Latency()
    assert latency.expected == 0
    for _ in range(50):
        latency.add(0.04)
    assert latency.expected == pytest.approx(0.04)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_in_lockstep_every_run_of_chunks_is_gapless_whatever_the_message_order(data):
    """Joint state, frames and executed step of a tick may arrive in any order; chunks start every 4 steps exactly."""
    robot = Robot().task().policy()
    starts, chunk, pending = [], "", None
    for step in range(30):
        events = ["joints", "executed"] + (["frames"] if step % 5 == 0 else [])
        for event in data.draw(st.permutations(events)):
            if event == "joints":
                robot.joints(step)
            elif event == "frames":
                robot.frames(step)
            elif step:
                robot.executed(step - 1, chunk)
            request = robot.request()
            if request is not None:
                assert pending is None
                pending = request
        if pending is not None:
            assert robot.answer(pending)
            starts.append(pending.stamp // DT)
            assert pending.jpegs["front"] == b"%d" % (step // 5 * 5)
            chunk, pending = f"c{pending.stamp}", None
    assert starts == list(range(0, 30, 4))

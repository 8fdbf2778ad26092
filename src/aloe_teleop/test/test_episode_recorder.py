"""The recorder as a process, over DDS, recording a graph that this test plays."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from array import array
from pathlib import Path

import numpy as np
import pytest
import rclpy
from aloe_msgs.msg import (
    Checkpoint,
    ControlMode,
    EpisodeEvent,
    ExecutedStep,
    RecorderStatus,
    Task,
    TeleopCommand,
    ValueEstimate,
)
from aloe_msgs.srv import StartRecording, StopRecording
from rclpy.duration import Duration
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState, Joy
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from aloe_core.contract import load_contract
from aloe_core.episode.bag import read_labels
from aloe_core.episode.check import check_bag
from aloe_core.episode.data import Outcome
from aloe_core.episode.reader import read_episode
from aloe_ros import qos, stamps
from aloe_ros.testing import Spinner, node_process

MODULE = "aloe_teleop.nodes.episode_recorder"
FILE = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"
CONTRACT = load_contract(FILE)
DT = 20_000_000


class Graph:
    """Publishes what the other nodes would, in lock-step order, and calls the recorder."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = node = rclpy.create_node("graph")
        self.spinner = Spinner(node)
        self.joints = node.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        self.executed = node.create_publisher(ExecutedStep, "control/executed", qos.COMMAND)
        self.command = node.create_publisher(JointTrajectory, "command/joint_trajectory", qos.COMMAND)
        self.value = node.create_publisher(ValueEstimate, "policy/value", qos.DEFAULT)
        self.joy = node.create_publisher(Joy, "joy", qos.DEFAULT)
        self.mode = node.create_publisher(ControlMode, "control/mode", qos.LATCHED)
        self.task = node.create_publisher(Task, "task", qos.LATCHED)
        self.checkpoint = node.create_publisher(Checkpoint, "checkpoint", qos.LATCHED)
        self.images = [
            node.create_publisher(CompressedImage, f"{c.topic}/image_raw/compressed", qos.IMAGE)
            for c in CONTRACT.cameras
        ]
        self.infos = [
            node.create_publisher(CameraInfo, f"{c.topic}/camera_info", qos.LATCHED) for c in CONTRACT.cameras
        ]
        self.events: list[EpisodeEvent] = []
        self.statuses: list[RecorderStatus] = []
        node.create_subscription(EpisodeEvent, "episode/event", self.events.append, qos.COMMAND)
        node.create_subscription(RecorderStatus, "recorder/status", self.statuses.append, qos.LATCHED)
        self.start_client = node.create_client(StartRecording, "recorder/start")
        self.stop_client = node.create_client(StopRecording, "recorder/stop")

    def matched(self) -> None:
        """Wait until the recorder hears every topic played here."""
        played = [self.joints, self.executed, self.command, self.value, self.joy, self.mode, self.task]
        played += [self.checkpoint, *self.images, *self.infos]
        self.spinner.until(lambda: all(p.get_subscription_count() for p in played), "the recorder subscribed")

    def latch(self, episode_id: str) -> None:
        for info in self.infos:
            info.publish(CameraInfo(width=96))
        self.checkpoint.publish(Checkpoint(version="v1"))
        self.mode.publish(ControlMode(mode=ControlMode.RESET))
        self.task.publish(Task(task="sorting", episode_id=episode_id, supervision="watch"))
        # A publisher may know its reader before the reader knows it; until then only the last message is kept.
        for publisher in (*self.infos, self.checkpoint, self.mode, self.task):
            assert publisher.wait_for_all_acked(Duration(seconds=20.0))

    def start(self, episode_id: str, **fields):
        request = StartRecording.Request(episode_id=episode_id, task="sorting", seed=5, **fields)
        return self.spinner.call(self.start_client, request)

    def stop(self, episode_id: str, label: int = 0, **fields):
        given = {"outcome": EpisodeEvent.OUTCOME_SUCCESS, "end": "terminated", "reason": "done"}
        request = StopRecording.Request(episode_id=episode_id, **{**given, **fields})
        stamps.fill(request.label_stamp, label)
        return self.spinner.call(self.stop_client, request)

    def state(self, k: int) -> None:
        if k % 5 == 0:
            image = CompressedImage(format="jpeg", data=array("B", bytes([k % 256]) * 2000))
            stamps.fill(image.header.stamp, k * DT)
            for publisher in self.images:
                publisher.publish(image)
        msg = JointState(name=CONTRACT.joint_names, position=[k / 1000] * 14)
        stamps.fill(msg.header.stamp, k * DT)
        self.joints.publish(msg)

    def step(self, k: int, episode_id: str, source: int = ExecutedStep.SOURCE_POLICY) -> None:
        names = CONTRACT.joint_names
        command = JointTrajectory(joint_names=names, points=[JointTrajectoryPoint(positions=[k / 100] * 14)])
        stamps.fill(command.header.stamp, k * DT)
        self.command.publish(command)
        step = ExecutedStep(
            tick=k,
            episode_id=episode_id,
            joint_names=names,
            requested=[k / 100] * 14,
            executed=[k / 100] * 14,
            source=source,
            policy_version="v1",
            groups=list(CONTRACT.groups),
            group_sources=[source] * len(CONTRACT.groups),
        )
        stamps.fill(step.header.stamp, k * DT)
        self.executed.publish(step)

    def play(self, episode_id: str, steps: int, first: int = 0, *, opened: bool = False) -> None:
        """Mode POLICY, `steps` ticks, the state after them, mode RESET: what an episode looks like.

        `opened`: the first state is there already.
        """
        self.mode.publish(ControlMode(mode=ControlMode.POLICY))
        for k in range(first, first + steps):
            if k > first or not opened:
                self.state(k)
            self.step(k, episode_id, ExecutedStep.SOURCE_HUMAN if k % 10 == 3 else ExecutedStep.SOURCE_POLICY)
            if k % 10 == 0:
                self.value.publish(ValueEstimate(q_min=-k / 100, chunk_id=f"c{k}"))
        self.state(first + steps)
        self.mode.publish(ControlMode(mode=ControlMode.RESET))

    def close(self) -> None:
        self.spinner.close()
        self.node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def graph():
    played = Graph()
    yield played
    played.close()


@pytest.fixture
def record(tmp_path):
    """Return a function that runs the recorder with parameters, bags in tmp_path/bags, log in tmp_path/log."""

    def run(**parameters):
        given = {"contract": FILE, "bag_dir": tmp_path / "bags", "lockstep": True, "use_sim_time": True, **parameters}
        return node_process(MODULE, given, tmp_path / "log")

    return run


def messages(bag: Path) -> dict[str, list]:
    found: dict[str, list] = {}
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(raw, connection.msgtype))
    return found


def test_two_episodes_become_two_whole_bags_without_a_lost_message(graph, record):
    with record():
        graph.matched()
        for number, first in (("E1", 0), ("E2", 100)):
            graph.latch(number)
            graph.state(first)  # the station is reset before the take, and its state comes only once
            started = graph.start(number, instruction="sort them", operator_name="Ada")
            assert started.success, started.message
            assert started.path.endswith(".partial")
            graph.play(number, 60, first, opened=True)
            done = graph.stop(number, label=(first + 60) * DT)
            assert done.success, done.message
            bag = Path(done.path)

            ep = read_episode(bag, CONTRACT)
            assert ep.stamps.tolist() == [(first + k) * DT for k in range(61)]
            np.testing.assert_allclose(ep.state[:, 3], np.arange(first, first + 61) / 1000, rtol=1e-5)
            due = [(first + k) * DT for k in range(0, 61, 5)]
            assert [frames.stamps.tolist() for frames in ep.frames.values()] == [due] * 3
            labels = read_labels(bag)
            assert (labels.outcome, labels.end, labels.seed) == (Outcome.SUCCESS, "terminated", 5)
            assert (labels.supervision, labels.operator) == ("watch", "Ada")
            assert (labels.steps, labels.intervention_steps, labels.policy_versions) == (60, 6, ("v1",))
            assert labels.topics["/control/executed"].dropped == 0
            assert check_bag(bag, CONTRACT).problems == ()

            found = messages(bag)
            assert [m.mode for m in found["/control/mode"]] == [
                ControlMode.RESET,
                ControlMode.POLICY,
                ControlMode.RESET,
            ]
            assert [m.episode_id for m in found["/task"]] == [number]
            assert [m.version for m in found["/checkpoint"]] == ["v1"]
            assert [m.width for m in found["/cameras/top/camera_info"]] == [96]
            assert len(found["/policy/value"]) == 6
            assert len(found["/command/joint_trajectory"]) == 60
        graph.spinner.until(lambda: len(graph.events) == 2, "both SAVED events")
        assert [(e.event, e.episode_id) for e in graph.events] == [(EpisodeEvent.SAVED, n) for n in ("E1", "E2")]


def test_stop_waits_for_the_last_state_and_its_frames(graph, record):
    """The stop request overtakes the state after the last step, as it may between processes."""
    with record(stop_timeout=30.0):
        graph.matched()
        graph.latch("E1")
        assert graph.start("E1").success
        graph.mode.publish(ControlMode(mode=ControlMode.POLICY))
        for k in range(10):
            graph.state(k)
            graph.step(k, "E1")
        graph.mode.publish(ControlMode(mode=ControlMode.RESET))
        request = StopRecording.Request(episode_id="E1", end="truncated")
        future = graph.stop_client.call_async(request)
        graph.spinner.until(
            lambda: any(s.state == RecorderStatus.FINISHING for s in graph.statuses), "the recorder is finishing"
        )
        assert not future.done()
        graph.state(10)
        graph.spinner.until(future.done, "the stop is answered")
        ep = read_episode(future.result().path, CONTRACT)
        assert ep.stamps[-1] == 10 * DT
        assert ep.frames["wrist_right"].stamps[-1] == 10 * DT


def test_a_discarded_take_goes_to_trash(graph, record, tmp_path):
    with record():
        graph.matched()
        graph.latch("E1")
        graph.start("E1")
        graph.play("E1", 5)
        done = graph.stop("E1", label=5 * DT, discard=True)
        assert Path(done.path).parent == tmp_path / "bags/trash"
        assert read_labels(Path(done.path)).episode_id == "E1"
        graph.spinner.until(lambda: graph.events, "the event")
        assert graph.events[0].event == EpisodeEvent.DISCARDED


def test_requests_that_make_no_sense_are_refused_and_change_nothing(graph, record, tmp_path):
    with record():
        assert "Nothing is being recorded" in graph.stop("E1").message
        (tmp_path / "file").write_text("")
        assert "Not a directory" in graph.start("E1", folder=str(tmp_path / "file/below")).message
        assert graph.start("E1").success
        assert "still being recorded" in graph.start("E2").message
        assert "Episode E1 is being recorded, not E9" in graph.stop("E9").message
        assert "outcome = 9" in graph.stop("E1", outcome=9).message
        assert "end = 'over'" in graph.stop("E1", end="over").message
        done = graph.stop("E1", outcome=EpisodeEvent.OUTCOME_ABORTED, end="aborted")
        assert done.success, done.message
        assert len(list((tmp_path / "bags").iterdir())) == 1


def test_a_disk_without_room_for_a_take_refuses_the_start(graph, record, tmp_path):
    free = shutil.disk_usage(tmp_path).free >> 20
    with record(min_free_mb=free + 1000):
        answer = graph.start("E1")
        assert not answer.success
        assert "MiB left on the disk" in answer.message
        assert not list((tmp_path / "bags").iterdir())


def test_a_disk_that_fills_up_ends_the_take_as_aborted(graph, record, tmp_path):
    """The disk really fills: free space falls below the reserve while the take runs."""
    gib = 1 << 30
    reserve = shutil.disk_usage(tmp_path).free - gib
    with record(min_free_mb=reserve >> 20, take_mb=0):
        graph.matched()
        graph.latch("E1")
        assert graph.start("E1").success
        graph.play("E1", 20)
        with (tmp_path / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, 3 * gib)
        graph.spinner.until(lambda: graph.events, "the FAILED event")
        (tmp_path / "ballast").unlink()
        assert graph.events[0].event == EpisodeEvent.FAILED
        graph.spinner.until(lambda: graph.statuses[-1].state == RecorderStatus.ERROR, "the status ERROR")
        answer = graph.stop("E1", label=20 * DT)
        assert not answer.success
        assert "left on the disk" in answer.message
    (bag,) = (tmp_path / "bags").iterdir()
    labels = read_labels(bag)
    assert (labels.outcome, labels.steps) == (Outcome.ABORTED, 20)


def test_a_refused_write_ends_the_take_as_failed_and_the_next_one_works(graph, record, tmp_path):
    """The kernel refuses to let the file grow, as a full disk would."""
    with record() as process:
        graph.matched()
        graph.latch("E1")
        path = Path(graph.start("E1").path)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        graph.play("E1", 60)
        count = [60]

        def failed() -> bool:
            count[0] += 1
            graph.state(count[0])
            return bool(graph.events)

        graph.spinner.until(failed, "the FAILED event")
        assert (graph.events[0].event, graph.events[0].outcome) == (EpisodeEvent.FAILED, EpisodeEvent.OUTCOME_ABORTED)
        answer = graph.stop("E1", label=60 * DT)
        assert not answer.success
        assert "episode not saved (File too large)" in answer.message
        assert path.is_dir(), "the torn take is kept for recovery"

        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        graph.latch("E2")
        assert graph.start("E2").success
        graph.play("E2", 5, 1000)
        done = graph.stop("E2", label=1005 * DT)
        assert read_episode(done.path, CONTRACT).steps == 5


def test_interrupted_in_a_take_it_keeps_the_bag_as_aborted(graph, record, tmp_path):
    with record() as process:
        graph.matched()
        graph.latch("E1")
        graph.start("E1")
        graph.play("E1", 30)
        steps = lambda: max((s.received[1] for s in graph.statuses if s.received), default=0)  # noqa: E731
        graph.spinner.until(lambda: steps() == 30, "30 executed steps received")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    (bag,) = (tmp_path / "bags").iterdir()
    labels = read_labels(bag)
    assert (labels.outcome, labels.steps) == (Outcome.ABORTED, 30)
    assert "shut down" in labels.reason


def test_after_sigkill_the_next_start_recovers_the_take(graph, record):
    with record() as process:
        graph.matched()
        graph.latch("E1")
        path = Path(graph.start("E1").path)
        graph.play("E1", 60)
        file = path / (path.name.removesuffix(".partial") + "_0.mcap")
        count = [0]

        def flushed() -> bool:  # a chunk reaches the disk with the first message after the sync period
            count[0] += 1
            graph.state(60 + count[0])
            return file.stat().st_size > 20_000

        graph.spinner.until(flushed, "a chunk is on disk")
        process.kill()
        process.wait()
    with record():
        graph.spinner.until(graph.start_client.service_is_ready, "the recorder is back")
        bag = path.with_name(path.name.removesuffix(".partial"))
        # What is recovered is written aside first, then the take goes to the trash, then the bag comes to its place.
        there = {bag, path.with_name("trash")}
        graph.spinner.until(lambda: set(path.parent.iterdir()) == there, "the take is recovered")
    ep = read_episode(bag, CONTRACT)
    assert (ep.outcome, ep.steps) == (Outcome.ABORTED, 60)


def test_further_topics_are_recorded_by_parameter(graph, record):
    extra = graph.node.create_publisher(String, "note", 10)
    with record(topics='["note:std_msgs/msg/String"]'):
        graph.matched()
        graph.spinner.until(extra.get_subscription_count, "note is subscribed")
        graph.start("E1")
        extra.publish(String(data="hello"))
        graph.play("E1", 3)
        done = graph.stop("E1", label=3 * DT)
        assert [m.data for m in messages(Path(done.path))["/note"]] == ["hello"]


def test_a_best_effort_publisher_is_recorded_as_well(graph, record):
    """A camera driver may offer best effort only; a reliable subscription would hear nothing."""
    graph.node.destroy_publisher(graph.joints)
    graph.joints = graph.node.create_publisher(JointState, "joint_states", rclpy.qos.qos_profile_sensor_data)
    with record(lockstep=False, use_sim_time=False):
        graph.matched()
        graph.start("E1")
        graph.play("E1", 5)
        done = graph.stop("E1", label=5 * DT)
        found = messages(Path(done.path))["/joint_states"]
        assert [round(m.position[0] * 1000) for m in found] == list(range(6))


def test_a_publisher_that_appears_in_a_take_with_other_offers_is_heard(graph, record):
    """In lock-step the recorder asks for latched joint states; a volatile publisher would stay unheard."""
    graph.node.destroy_publisher(graph.joints)
    with record():
        graph.spinner.until(graph.start_client.service_is_ready, "the recorder is there")
        graph.start("E1")
        graph.joints = graph.node.create_publisher(JointState, "joint_states", 10)
        graph.matched()
        graph.latch("E1")
        graph.play("E1", 5)
        done = graph.stop("E1", label=5 * DT)
        assert read_episode(done.path, CONTRACT).steps == 5


def test_teleop_and_joy_reach_the_bag_as_they_were_sent(graph, record):
    teleop = graph.node.create_publisher(TeleopCommand, "teleop/command", qos.COMMAND)
    with record():
        graph.matched()
        graph.spinner.until(teleop.get_subscription_count, "teleop is subscribed")
        graph.start("E1")
        graph.joy.publish(Joy(buttons=[0, 0, 0, 0, 1]))
        teleop.publish(TeleopCommand(device="leader", engaged=True, joint_names=["a"], positions=[0.5]))
        graph.play("E1", 3)
        found = messages(Path(graph.stop("E1", label=3 * DT).path))
        assert found["/joy"][0].buttons.tolist() == [0, 0, 0, 0, 1]
        assert found["/teleop/command"][0].engaged


def test_a_camera_that_stops_is_told_in_the_take_and_fails_its_quality_check(graph, record, tmp_path):
    with record(lockstep=False, use_sim_time=False, max_gaps=1):
        graph.matched()
        graph.start("E1")
        graph.mode.publish(ControlMode(mode=ControlMode.POLICY))
        for k in range(60):
            graph.state(k)
            graph.step(k, "E1")
            if k == 20:
                graph.images, stopped = [], graph.images
        graph.spinner.until(lambda: any("camera" in s.quality for s in graph.statuses), "the status says it")
        status = next(s for s in graph.statuses if "camera" in s.quality)
        top = list(status.topics).index("/cameras/top/image_raw/compressed")
        assert (status.received[top], status.expected[top]) == (5, 11) and status.max_gap[top] > 0.1
        graph.spinner.until(lambda: "compressed: nothing for" in (tmp_path / "log").read_text(), "the log says it")
        graph.images = stopped
        graph.state(60)
        graph.mode.publish(ControlMode(mode=ControlMode.RESET))
        done = graph.stop("E1", label=60 * DT)
    assert done.success and "/cameras/top/image_raw/compressed: 1 gaps" in done.message
    quality = read_labels(Path(done.path)).quality
    assert "/cameras/wrist_left/image_raw/compressed: 1 gaps, the longest" in quality
    assert any("failed its quality check" in p.text for p in check_bag(Path(done.path), CONTRACT).problems)


def test_a_further_latched_topic_is_in_every_bag(graph, record):
    """Two publishers, each with something latched: the newest message alone would not do."""
    extra = [graph.node.create_publisher(String, "static", qos.LATCHED) for _ in range(2)]
    for number, publisher in enumerate(extra):
        publisher.publish(String(data=f"frame {number}"))
    with record(topics='["static:std_msgs/msg/String"]'):
        graph.matched()
        graph.spinner.until(lambda: all(p.get_subscription_count() for p in extra), "static is subscribed")
        for number, first in (("E1", 0), ("E2", 100)):
            graph.latch(number)
            graph.start(number)
            graph.spinner.until(
                lambda name=number: any(
                    s.episode_id == name and s.received[list(s.topics).index("/static")] == 2 for s in graph.statuses
                ),
                "both latched messages came",
            )
            graph.play(number, 3, first)
            found = messages(Path(graph.stop(number, label=(first + 3) * DT).path))
            assert sorted(m.data for m in found["/static"]) == ["frame 0", "frame 1"]


def test_publishers_that_offer_different_qos_are_told_and_all_heard(graph, record, tmp_path):
    weak = graph.node.create_publisher(Joy, "joy", rclpy.qos.qos_profile_sensor_data)
    with record(lockstep=False, use_sim_time=False):
        graph.matched()
        graph.spinner.until(weak.get_subscription_count, "the weak publisher is heard")
        graph.start("E1")
        graph.spinner.until(lambda: "/joy: publishers offer different QoS" in (tmp_path / "log").read_text(), "told")
        graph.spinner.until(lambda: weak.get_subscription_count() and graph.joy.get_subscription_count(), "both heard")
        for publisher, button in ((weak, 1), (graph.joy, 2)):
            publisher.publish(Joy(buttons=[button]))
        graph.play("E1", 3)
        found = messages(Path(graph.stop("E1", label=3 * DT).path))
        assert sorted(m.buttons[0] for m in found["/joy"]) == [1, 2]

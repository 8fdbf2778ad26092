"""policy_node as a process, over DDS, in lock-step: this test plays simulator, arbiter and trainer."""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import rclpy
import yaml
from aloe_msgs.msg import ActionChunk, Checkpoint, ControlMode, ExecutedStep, Task, ValueEstimate
from aloe_msgs.srv import LoadCheckpoint, RollbackCheckpoint
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, JointState

from aloe_core.checkpoint import manifest_sha256
from aloe_ros import qos, stamps
from aloe_ros.convert import chunk_from_msg, joint_state_msg
from aloe_ros.testing import Spinner, node_process, stop
from tiny_policy import CONTRACT, tiny_contract, write_tiny

DT = 20_000_000
CAMERAS = ("front", "wrist")
STARTING = 90.0  # s that a process may take on a busy machine

pytestmark = pytest.mark.usefixtures("helpers_on_path")


class Station(Node):
    """The rest of the graph, one message at a time."""

    def __init__(self):
        super().__init__("station")
        self.contract = tiny_contract()
        self.chunks, self.values, self.diagnostics = [], [], []
        self._task = self.create_publisher(Task, "task", qos.LATCHED)
        self._mode = self.create_publisher(ControlMode, "control/mode", qos.LATCHED)
        self._joints = self.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        self._executed = self.create_publisher(ExecutedStep, "control/executed", qos.COMMAND)
        self._frames = {
            n: self.create_publisher(CompressedImage, f"cameras/{n}/image_raw/compressed", qos.IMAGE) for n in CAMERAS
        }
        self._announcement = self.create_publisher(Checkpoint, "checkpoint", qos.LATCHED)
        self.outputs = (
            self._task,
            self._mode,
            self._joints,
            self._executed,
            self._announcement,
            *self._frames.values(),
        )
        self.create_subscription(ActionChunk, "policy/action_chunk", self.chunks.append, qos.DEFAULT)
        self.create_subscription(ValueEstimate, "policy/value", self.values.append, qos.DEFAULT)
        self.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, qos.DEFAULT)
        self.load = self.create_client(LoadCheckpoint, "policy/load_checkpoint")
        self.rollback = self.create_client(RollbackCheckpoint, "policy/rollback_checkpoint")
        self.spinner = Spinner(self)
        self.step = 0
        self._sequence = 0

    def connect(self):
        listening = lambda: all(p.get_subscription_count() for p in self.outputs)  # noqa: E731
        self.spinner.until(listening, "the policy node listens", STARTING)
        self.spinner.until(lambda: self.diagnostics, "it is heard", STARTING)

    def task(self, episode, seed=7):
        self._task.publish(Task(task="sort", instruction="sort the blocks", episode_id=episode, seed=seed))

    def mode(self, mode):
        self._sequence += 1
        msg = ControlMode(mode=mode, sequence=self._sequence)
        stamps.fill(msg.header.stamp, self.step * DT)
        self._mode.publish(msg)

    def joints(self, position=(0.1, -0.2), stamp=None):
        stamp = self.step * DT if stamp is None else stamp
        self._joints.publish(joint_state_msg(self.contract, stamp, np.array(position)))

    def frame(self, brightness=0, cameras=CAMERAS, stamp=None):
        stamp = self.step * DT if stamp is None else stamp
        image = np.full((24, 32, 3), brightness, np.uint8)
        for name in cameras:
            msg = CompressedImage(format="rgb8; jpeg compressed bgr8")
            msg.data.frombytes(cv2.imencode(".jpg", image)[1].tobytes())
            stamps.fill(msg.header.stamp, stamp)
            self._frames[name].publish(msg)

    def run(self, chunk):
        """Execute the leading rows of a chunk and return at the joint state that follows them."""
        for row in range(chunk.execute):
            msg = ExecutedStep(source=1, chunk_id=chunk.chunk_id, chunk_index=row, episode_id="e1")
            stamps.fill(msg.header.stamp, self.step * DT)
            self._executed.publish(msg)
            self.step += 1
            if self.step % 5 == 0:
                self.frame()
            self.joints()

    def chunk(self, number):
        """Wait for the chunk of this number (from 1), the last one published."""
        self.spinner.until(lambda: len(self.chunks) >= number, f"chunk {number}")
        assert len(self.chunks) == number
        return chunk_from_msg(self.chunks[-1], self.contract)

    def announce(self, path, sha256=None, uri=None):
        sha256 = manifest_sha256(path) if sha256 is None else sha256
        self._announcement.publish(Checkpoint(uri=uri or str(path), version=path.name, sha256=sha256))

    def reports(self, text):
        """Wait for a diagnostic that says `text`."""
        self.diagnostics.clear()
        self.spinner.until(lambda: any(text in a.status[0].message for a in self.diagnostics), f"diagnostic {text!r}")


@contextmanager
def running_node(folder, lockstep=True, **given):
    """Run the node with the tiny policy; give the station that is connected to it and the checkpoint folder."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONTRACT))
    root = folder / "checkpoints"
    parameters = {
        "contract": folder / "tiny.yaml",
        "lockstep": lockstep,
        "checkpoint_dir": root,
        "frame_timeout": 0.3,
    } | given
    rclpy.init()
    station = Station()
    try:
        with node_process("tiny_policy_node", parameters, folder / "log") as process:
            station.connect()
            yield station, root
            assert stop(process) == 0, (folder / "log").read_text()
    finally:
        station.spinner.close()
        station.destroy_node()
        rclpy.shutdown()


def test_observation_in_chunk_out_swap_refusal_and_rollback(tmp_path):
    """One process, one story: waits without a checkpoint, drives, swaps between chunks, refuses, rolls back."""
    with running_node(tmp_path) as (station, root):
        check_story(station, root)


def check_story(station, root):
    station.reports("no checkpoint yet")
    station.task("e1")
    station.frame(255)
    station.joints()
    station.mode(ControlMode.POLICY)

    first = write_tiny(root, "v1", slope=0.01)
    station.announce(first)
    chunk = station.chunk(1)
    assert (chunk.stamp, chunk.policy_version, chunk.chunk_id) == (0, "v1", "v1/7/0/0")
    assert chunk.actions[0] == pytest.approx([0.11, -0.19])
    station.spinner.until(lambda: station.values, "the value")
    assert station.values[0].chunk_id == "v1/7/0/0"
    assert station.values[0].q_mean == pytest.approx(-1.0, abs=0.02), "the white frame reached the policy"
    assert station.values[0].advantage == pytest.approx(0.1)

    station.run(chunk)
    chunk = station.chunk(2)
    assert chunk.chunk_id == f"v1/7/1/{4 * DT}"

    second = write_tiny(root, "v2", slope=-0.01, parent="v1")
    answer = station.spinner.call(station.load, LoadCheckpoint.Request(uri=str(second), sha256=manifest_sha256(second)))
    assert (answer.success, answer.version) == (True, "v2")
    assert len(station.chunks) == 2, "a swap alone causes no chunk"
    station.run(chunk)
    chunk = station.chunk(3)
    assert (chunk.policy_version, chunk.chunk_id) == ("v2", f"v2/7/2/{8 * DT}")

    bad = write_tiny(root, "v3", slope="nan")
    answer = station.spinner.call(station.load, LoadCheckpoint.Request(uri=str(bad)))
    assert not answer.success
    assert "not finite" in answer.message
    torn = write_tiny(root, "v4")
    (torn / "model.safetensors").write_bytes(b"t")
    station.announce(torn)
    station.reports("checkpoint refused: ")
    station.run(chunk)
    chunk = station.chunk(4)
    assert chunk.policy_version == "v2"

    answer = station.spinner.call(station.rollback, RollbackCheckpoint.Request())
    assert (answer.success, answer.version) == (True, "v1")
    assert not station.spinner.call(station.rollback, RollbackCheckpoint.Request()).success
    station.run(chunk)
    assert station.chunk(5).policy_version == "v1"


def test_takeover_new_episode_and_missing_frames(tmp_path):
    """LATEST is loaded at the start; a takeover ends a chunk, a missing frame is waited for and reported."""
    write_tiny(tmp_path / "checkpoints", "v1")
    with running_node(tmp_path) as (station, _):
        station.task("e1")
        station.frame()
        station.joints()
        station.mode(ControlMode.POLICY)
        station.chunk(1)

        station.mode(ControlMode.HUMAN)
        station.step = 2
        station.joints()
        station.mode(ControlMode.POLICY)
        assert station.chunk(2).stamp == 2 * DT

        station.mode(ControlMode.RESET)
        station.task("e2", seed=9)
        station.step = 50
        station.frame(cameras=("front",))
        station.joints()
        station.mode(ControlMode.POLICY)
        station.reports("camera wrist: newest frame is one 1.000 s old")
        assert len(station.chunks) == 2
        station.frame(cameras=("wrist",))
        assert station.chunk(3).chunk_id == f"v1/9/0/{50 * DT}"
        station.reports("policy v1")


def test_a_failing_policy_is_reported_and_the_next_joint_state_is_tried(tmp_path):
    write_tiny(tmp_path / "checkpoints", "v1")
    with running_node(tmp_path) as (station, _):
        station.reports("policy v1")
        station.task("e1")
        station.frame()
        station.mode(ControlMode.POLICY)
        station.joints(position=(np.nan, 0.0))
        station.reports("policy v1 failed: Policy v1: its chunk is not finite")
        assert not station.chunks
        station.step = 1
        station.joints()
        assert station.chunk(1).stamp == DT


def robot_driver(station):
    """Send a frame and a joint state at 50 Hz, as a driver does; return the clock that stamps them, and the timer."""
    now = lambda: station.get_clock().now().nanoseconds  # noqa: E731

    def drive():
        station.frame(stamp=now())
        station.joints(stamp=now())

    return now, station.create_timer(0.02, drive)


def test_on_a_robot_chunks_follow_each_other_early_and_stop_when_input_is_stale(tmp_path):
    """Without lock-step, on the wall clock: joint states at 50 Hz by a timer, as a driver sends them."""
    write_tiny(tmp_path / "checkpoints", "v1", seconds=0.01)
    with running_node(tmp_path, lockstep=False) as (station, _):
        station.reports("policy v1")
        station.task("e1")
        now, driver = robot_driver(station)
        station.mode(ControlMode.POLICY)
        station.spinner.until(lambda: len(station.chunks) >= 6, "six chunks")
        starts = [stamps.to_ns(chunk.header.stamp) for chunk in station.chunks]
        gaps = np.diff(starts) * 1e-9
        assert np.median(gaps) < 8 * 0.02, "a chunk begins while the one before has rows left"
        station.destroy_timer(driver)
        station.reports("joint state is")
        count = len(station.chunks)
        station.joints(stamp=now() - 500_000_000)
        station.reports("expected at most 0.1 s")
        assert len(station.chunks) == count


def test_on_a_robot_a_slow_policy_is_asked_earlier_and_told_what_will_have_run(tmp_path):
    """50 ms are 3 of the 8 steps: chunks run longer, and the first rows of each are those of the one before."""
    write_tiny(tmp_path / "checkpoints", "v1")
    with running_node(tmp_path, lockstep=False, inject_delay=0.05) as (station, _):
        station.reports("policy v1")
        station.task("e1")
        _, driver = robot_driver(station)
        station.mode(ControlMode.POLICY)
        station.spinner.until(lambda: len(station.chunks) >= 8, "eight chunks")
        pairs = [(a, b) for a, b in itertools.pairwise(map(read, station.chunks)) if b.frozen_steps]
        assert pairs, "no chunk was told what runs"
        for before, after in pairs:
            shift = before.index_at(after.stamp)
            np.testing.assert_array_equal(
                after.actions[: after.frozen_steps], before.actions[shift : shift + after.frozen_steps]
            )
        assert max(after.frozen_steps for _, after in pairs) >= 3
        assert pairs[-1][1].execute > station.contract.chunk.execute
        station.diagnostics.clear()
        station.spinner.until(lambda: station.diagnostics, "a report")
        said = {pair.key: pair.value for pair in station.diagnostics[-1].status[0].values}
        assert int(said["delay_steps"]) >= 3 and float(said["age_ms"]) >= 50 and float(said["latency_ms"]) >= 50
        assert "missed_deadlines" in said and said["chunking"] == "receding"
        station.destroy_timer(driver)


def read(msg):
    return chunk_from_msg(msg, tiny_contract())


def test_a_delay_is_not_injected_in_lockstep(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONTRACT))
    given = {"contract": tmp_path / "tiny.yaml", "lockstep": True, "inject_delay": 0.1}
    with node_process("tiny_policy_node", given, tmp_path / "log") as process:
        assert process.wait(60) == 2
    assert "inject_delay needs lockstep: false" in (tmp_path / "log").read_text()

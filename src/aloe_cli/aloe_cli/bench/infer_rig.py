"""The world around the real policy_node and arbiter_node: a robot that follows commands, and its cameras."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field

import numpy as np
from aloe_msgs.msg import ActionChunk, ControlMode, ExecutedStep, Task
from aloe_msgs.srv import SetControlMode
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, JointState

from aloe_core.contract import RobotContract
from aloe_policy.image_bridge import JPEG_FORMAT, encode_jpeg
from aloe_ros import qos, stamps
from aloe_ros.convert import joint_state_msg
from aloe_ros.testing import Spinner

EPISODE = "bench"
_PATIENCE = 180.0  # s, for processes to start and to find each other
_PICTURES = 8  # different frames of each camera, sent in turn


@dataclass
class Seen:
    """What came over the topics since the first step of the policy."""

    overhead: list[float] = field(default_factory=list)  # s, a chunk's observation -> chunk, less the model's time
    to_command: list[float] = field(default_factory=list)  # s, a chunk's observation -> first command from the chunk
    model: list[float] = field(default_factory=list)  # s
    ticks: int = 0  # answered by the arbiter
    held: int = 0  # of these, without a row of a chunk
    began: float = 0.0  # monotonic s
    ended: float = 0.0


class Rig(Node):
    """Stamps joint state and frames when it sends them; ideal robot, pictures of noise under a gradient."""

    def __init__(self, contract: RobotContract, position: np.ndarray, camera_hz: float) -> None:
        super().__init__("infer_rig")
        self.seen = Seen()
        self.reports: dict[str, str] = {}
        self._contract, self._position = contract, position
        self._mode: ControlMode | None = None
        self._answered = self._drives = False
        self._waiting: dict[str, int] = {}  # chunks of which no command was seen -> stamp of the observation
        self._frames = 0
        self._jpegs = _pictures(contract)
        control = contract.control
        self._states = self.create_publisher(JointState, control.joint_states_topic, qos.JOINT_STATES)
        self._images = [
            self.create_publisher(CompressedImage, f"{c.topic}/image_raw/compressed", qos.IMAGE)
            for c in contract.cameras
        ]
        self._task = self.create_publisher(Task, "task", qos.LATCHED)
        self._set_mode = self.create_client(SetControlMode, "control/set_mode")
        self.create_subscription(ActionChunk, "policy/action_chunk", self._on_chunk, qos.COMMAND)
        self.create_subscription(ExecutedStep, "control/executed", self._on_executed, qos.COMMAND)
        self.create_subscription(ControlMode, "control/mode", self._on_mode, qos.LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.DEFAULT)
        self.create_timer(1.0 / camera_hz, self._send_frames)
        self.create_timer(contract.dt, self._send_state)
        self._spinner = Spinner(self)

    def connect(self) -> None:
        """Wait until both nodes are there and the policy is loaded, then let it drive."""
        outputs = (self._states, self._task, *self._images)
        self._spinner.until(lambda: all(p.get_subscription_count() for p in outputs), "both nodes listen", _PATIENCE)
        self._spinner.until(lambda: self._answered, "the arbiter commands", _PATIENCE)
        self._spinner.until(lambda: self.reports.get("version"), "the policy is loaded", _PATIENCE)
        self._task.publish(Task(task="bench", instruction="measure", episode_id=EPISODE, seed=1))
        self._spinner.call(self._set_mode, SetControlMode.Request(mode=ControlMode.POLICY, cause="benchmark"))
        self._spinner.until(lambda: self._drives, "the policy drives", _PATIENCE)

    def measure(self, seconds: float) -> Seen:
        """Drive for `seconds` and return what was seen."""
        self._waiting.clear()
        self.seen = Seen(began=time.monotonic())
        while (left := self.seen.began + seconds - time.monotonic()) > 0:
            self._spinner.executor.spin_once(timeout_sec=left)
        self.seen.ended = time.monotonic()
        return self.seen

    def close(self) -> None:
        self._spinner.close()
        self.destroy_node()

    def _send_state(self) -> None:
        now = self.get_clock().now().nanoseconds
        self._states.publish(joint_state_msg(self._contract, now, self._position))

    def _send_frames(self) -> None:
        self._frames += 1
        for publisher, camera, jpegs in zip(self._images, self._contract.cameras, self._jpegs, strict=True):
            msg = CompressedImage(format=JPEG_FORMAT, data=jpegs[self._frames % _PICTURES])
            msg.header.frame_id = camera.frame_id
            stamps.fill(msg.header.stamp, self.get_clock().now().nanoseconds)
            publisher.publish(msg)

    def _on_chunk(self, chunk: ActionChunk, info: dict) -> None:
        observed = stamps.to_ns(chunk.header.stamp)
        age = (info["received_timestamp"] - observed) * 1e-9  # this process may be busy with its frames
        self.seen.overhead.append(age - chunk.inference_latency)
        self.seen.model.append(chunk.inference_latency)
        self._waiting[chunk.chunk_id] = observed

    def _on_executed(self, step: ExecutedStep, info: dict) -> None:
        self._answered = True
        self._position = np.asarray(step.executed, dtype=np.float64)
        self.seen.ticks += 1
        if step.source != ExecutedStep.SOURCE_POLICY:
            self.seen.held += 1
            return
        self._drives = True
        observed = self._waiting.pop(step.chunk_id, None)
        if observed is not None:
            self.seen.to_command.append((info["received_timestamp"] - observed) * 1e-9)

    def _on_mode(self, mode: ControlMode) -> None:
        self._mode = mode

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if "policy_node" in status.name:
                self.reports = {pair.key: pair.value for pair in status.values}


def _pictures(contract: RobotContract) -> list[list[array]]:
    rng = np.random.default_rng(0)
    pictures = []
    for camera in contract.cameras:
        ramp = np.linspace(0, 200, camera.width)[None, :, None].repeat(camera.height, 0).repeat(3, 2)
        frames = [(ramp + rng.uniform(0, 40, ramp.shape)).astype(np.uint8) for _ in range(_PICTURES)]
        pictures.append([array("B", encode_jpeg(frame)) for frame in frames])
    return pictures

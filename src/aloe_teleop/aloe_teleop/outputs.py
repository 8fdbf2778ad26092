"""What the arbiter publishes; messages are built once and reused, because they go out every control tick."""

from array import array
from collections.abc import Callable

import numpy as np
from aloe_msgs.msg import ControlMode, ExecutedStep
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from aloe_core.contract import RobotContract
from aloe_core.control import Change, Step
from aloe_core.episode.data import Source
from aloe_ros import qos, stamps


def floats64(values: np.ndarray) -> array:
    """Return `values` as the array type that message fields take without a copy per element."""
    out = array("d")
    out.frombytes(np.asarray(values, dtype=np.float64).tobytes())
    return out


def floats32(values: np.ndarray) -> array:
    """As `floats64`, in single precision."""
    out = array("f")
    out.frombytes(np.asarray(values, dtype=np.float32).tobytes())
    return out


def bytes8(sources: tuple[Source, ...]) -> array:
    """As `floats64`, for who drives each joint group."""
    return array("B", sources)


class Outputs:
    """Publishers of the arbiter: the robot command, control/executed and control/mode."""

    def __init__(self, node: Node, contract: RobotContract) -> None:
        self._node = node
        self._executed = node.create_publisher(ExecutedStep, "control/executed", qos.COMMAND)
        self._mode = node.create_publisher(ControlMode, "control/mode", qos.LATCHED)
        self._groups = list(contract.groups)
        self._executed_msg = ExecutedStep(joint_names=contract.joint_names, groups=self._groups)
        self._send_command = self._command_output(node, contract)

    def step(self, step: Step) -> None:
        """Publish command and executed step; the command first, because the robot waits for it."""
        self._send_command(step.stamp, floats64(step.executed))
        msg = self._executed_msg
        stamps.fill(msg.header.stamp, step.stamp)
        msg.tick = step.tick
        msg.episode_id = step.episode_id
        msg.requested = array("f") if step.requested is None else floats32(step.requested)
        msg.executed = floats32(step.executed)
        msg.source = int(step.source)
        msg.group_sources = bytes8(step.group_source)
        msg.chunk_id = step.chunk_id
        msg.chunk_index = step.chunk_index
        msg.policy_version = step.policy_version
        msg.clamp_reasons = int(step.clamp)
        self._executed.publish(msg)

    def change(self, change: Change) -> None:
        """Publish a mode change; its stamp is the oldest observation that may drive in the new mode."""
        msg = ControlMode(
            mode=int(change.mode),
            previous=int(change.previous),
            cause=change.cause,
            sequence=change.sequence,
            groups=self._groups,
            group_sources=bytes8(change.group_source),
        )
        stamps.fill(msg.header.stamp, change.stamp)
        self._mode.publish(msg)

    def close(self) -> None:
        for publisher in (self._executed, self._mode, self._command):
            self._node.destroy_publisher(publisher)

    def _command_output(self, node: Node, contract: RobotContract) -> Callable[[int, array], None]:
        control = contract.control
        if control.command_kind == "float64_multi_array":
            publisher = self._command = node.create_publisher(Float64MultiArray, control.command_topic, qos.COMMAND)
            values = Float64MultiArray()

            def send_values(_stamp: int, positions: array) -> None:
                values.data = positions
                publisher.publish(values)

            return send_values

        publisher = self._command = node.create_publisher(JointTrajectory, control.command_topic, qos.COMMAND)
        point = JointTrajectoryPoint()
        point.time_from_start.nanosec = round(contract.dt * 1e9) % 1_000_000_000
        point.time_from_start.sec = round(contract.dt * 1e9) // 1_000_000_000
        trajectory = JointTrajectory(joint_names=contract.joint_names, points=[point])

        def send_trajectory(stamp: int, positions: array) -> None:
            stamps.fill(trajectory.header.stamp, stamp)
            point.positions = positions
            publisher.publish(trajectory)

        return send_trajectory

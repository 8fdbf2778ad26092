"""A policy whose critic loses hope, through the real policy_node and arbiter_node: the robot waits for a person."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
import yaml
from aloe_msgs.msg import ControlMode, ExecutedStep, Task, TeleopCommand, ValueEstimate
from aloe_msgs.srv import SetControlMode
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, JointState

from aloe_ros import qos, stamps
from aloe_ros.convert import joint_state_msg
from aloe_ros.testing import Spinner, node_process, stop

HELPERS = Path(__file__).parents[1] / "src/aloe_policy/test"
sys.path.insert(0, str(HELPERS))
from tiny_policy import CONTRACT, tiny_contract, write_tiny

PATIENCE = 60.0  # s


class World(Node):
    """A robot that follows commands; its cameras are as bright as told, and the tiny critic likes it dark."""

    def __init__(self) -> None:
        super().__init__("world")
        self.contract = tiny_contract()
        self.brightness = 0
        self.modes, self.values, self.statuses, self.sources = [], [], [], []
        self.position = np.zeros(2)
        self.states = self.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        self.images = [
            self.create_publisher(CompressedImage, f"{c.topic}/image_raw/compressed", qos.IMAGE)
            for c in self.contract.cameras
        ]
        self.task = self.create_publisher(Task, "task", qos.LATCHED)
        self.person = self.create_publisher(TeleopCommand, "teleop/command", qos.COMMAND)
        self.set_mode = self.create_client(SetControlMode, "control/set_mode")
        self.create_subscription(ControlMode, "control/mode", self.modes.append, qos.LATCHED)
        self.create_subscription(ValueEstimate, "policy/value", self.values.append, qos.DEFAULT)
        self.create_subscription(DiagnosticStatus, "policy/status", self.statuses.append, qos.LATCHED)
        self.create_subscription(ExecutedStep, "control/executed", self._follow, qos.COMMAND)
        self.create_timer(0.02, self._send)

    def _follow(self, step: ExecutedStep) -> None:
        self.sources.append(step.source)
        self.position = np.asarray(step.executed)

    def _send(self) -> None:
        now = self.get_clock().now().nanoseconds
        image = np.full((24, 32, 3), self.brightness, np.uint8)
        for publisher in self.images:
            msg = CompressedImage(format="rgb8; jpeg compressed bgr8")
            msg.data.frombytes(cv2.imencode(".jpg", image)[1].tobytes())
            stamps.fill(msg.header.stamp, now)
            publisher.publish(msg)
        self.states.publish(joint_state_msg(self.contract, now, self.position))


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONTRACT))
    write_tiny(tmp_path / "checkpoints", "v1", slope=0.0)
    rclpy.init()
    node = World()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def driving(world, spinner):
    """Wait until the policy drives and the critic is content."""
    outputs = (world.states, world.task, *world.images)
    spinner.until(lambda: all(p.get_subscription_count() for p in outputs), "both nodes listen", PATIENCE)
    world.task.publish(Task(task="t", instruction="sort", episode_id="e1", supervision="supervise"))
    spinner.until(lambda: any(s.message == "policy v1" for s in world.statuses), "the policy is loaded", PATIENCE)
    spinner.until(lambda: world.modes and world.sources, "the arbiter commands", PATIENCE)
    assert spinner.call(world.set_mode, SetControlMode.Request(mode=ControlMode.POLICY, cause="test"), PATIENCE).success
    spinner.until(lambda: len(world.values) >= 3, "chunks and their values", PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("hold", [False, True])
def test_a_fall_of_the_value_is_told_and_holds_the_robot_if_that_is_wanted(tmp_path, world, hold):
    given = {"contract": tmp_path / "tiny.yaml"}
    alarm = {"checkpoint_dir": tmp_path / "checkpoints", "alarm_drop": 0.4, "alarm_chunks": 200, "alarm_hold": hold}
    spinner = Spinner(world)
    with (
        node_process("aloe_teleop.nodes.arbiter_node", given, tmp_path / "arbiter") as arbiter,
        node_process("tiny_policy_node", given | alarm, tmp_path / "policy") as policy,
    ):
        driving(world, spinner)
        assert world.modes[-1].mode == ControlMode.POLICY
        changes = len(world.modes)
        world.brightness = 255
        if hold:
            spinner.until(lambda: world.modes[-1].mode == ControlMode.HOLD, "the robot holds", PATIENCE)
            assert "The value of the policy's chunks fell by" in world.modes[-1].cause
            assert world.modes[-1].cause.endswith("Take over.")
            takeover(world, spinner)
        else:
            told = lambda: any("chunks fell by" in s.message for s in world.statuses)  # noqa: E731
            spinner.until(told, "the latched status says so", PATIENCE)
            assert len(world.modes) == changes, "nobody asked for anything but a look"
        assert [stop(policy), stop(arbiter)] == [0, 0]
    spinner.close()


def takeover(world, spinner):
    """A person takes over from HOLD and hands back; the alarm does not hold the robot again at once."""
    command = TeleopCommand(device="leader", engaged=True, joint_names=["shoulder", "elbow"], positions=[0.0, 0.0])

    def send(engaged):
        command.engaged = engaged
        command.header.stamp = world.get_clock().now().to_msg()
        world.person.publish(command)

    pressing = world.create_timer(0.02, lambda: send(True))
    spinner.until(lambda: world.modes[-1].mode == ControlMode.HUMAN, "the person drives", PATIENCE)
    world.destroy_timer(pressing)
    send(False)
    spinner.until(lambda: world.modes[-1].mode == ControlMode.POLICY, "the policy drives again", PATIENCE)
    count = len(world.values)
    spinner.until(lambda: len(world.values) >= count + 5, "it goes on", PATIENCE)
    assert world.modes[-1].mode == ControlMode.POLICY

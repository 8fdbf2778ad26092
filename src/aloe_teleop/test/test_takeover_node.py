"""takeover_node and arbiter as real processes: from buttons and leader arm to the robot's command."""

from pathlib import Path

import numpy as np
import pytest
import rclpy
from aloe_msgs.msg import ControlMode, EpisodeEvent, ExecutedStep, TeleopCommand
from aloe_msgs.srv import LabelEpisode
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from trajectory_msgs.msg import JointTrajectory

from aloe_core.contract import load_contract
from aloe_ros import qos, stamps
from aloe_ros.convert import joint_state_msg
from aloe_ros.testing import Spinner, node_process

CONTRACT_FILE = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"
CONTRACT = load_contract(CONTRACT_FILE)
MAP = CONTRACT.takeover
DT = 20_000_000
HOME = (CONTRACT.lower + CONTRACT.upper) / 2


class Person(Node):
    """Robot, joystick, leader arm and episode manager as the two nodes see them."""

    def __init__(self) -> None:
        super().__init__("person")
        self.joints = self.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        self.joy = self.create_publisher(Joy, "joy", qos.DEFAULT)
        self.leader = self.create_publisher(JointState, "leader/joint_states", qos.DEFAULT)
        self.modes: list[ControlMode] = []
        self.commands: list[JointTrajectory] = []
        self.executed: list[ExecutedStep] = []
        self.teleop: list[TeleopCommand] = []
        self.labels: list[LabelEpisode.Request] = []
        self.create_subscription(ControlMode, "control/mode", self.modes.append, qos.LATCHED)
        self.create_subscription(JointTrajectory, "command/joint_trajectory", self.commands.append, qos.COMMAND)
        self.create_subscription(ExecutedStep, "control/executed", self.executed.append, qos.COMMAND)
        self.create_subscription(TeleopCommand, "teleop/command", self.teleop.append, qos.COMMAND)
        self.create_service(LabelEpisode, "episode/label", self._on_label)

    def _on_label(self, request, response):
        self.labels.append(request)
        response.success = True
        return response

    def press(self, *buttons: int) -> None:
        self.joy.publish(Joy(buttons=[int(i in buttons) for i in range(8)]))

    def state(self, k: int) -> None:
        self.joints.publish(joint_state_msg(CONTRACT, k * DT, HOME))

    def lead(self, k: int, offset: float = 0.0) -> None:
        self.leader.publish(joint_state_msg(CONTRACT, k * DT, HOME + offset))


@pytest.fixture
def person(tmp_path):
    given = {"contract": CONTRACT_FILE, "lockstep": True}
    rclpy.init()
    node = Person()
    spinner = Spinner(node)
    with (
        node_process("aloe_teleop.nodes.arbiter_node", given, tmp_path / "arbiter"),
        node_process("aloe_teleop.nodes.takeover_node", given, tmp_path / "takeover"),
    ):
        spinner.until(lambda: node.joints.get_subscription_count() == 2, "both listen to joint states")
        spinner.until(lambda: node.joy.get_subscription_count() == 2, "both listen to joy")
        spinner.until(lambda: node.leader.get_subscription_count() == 1, "takeover listens to the leader")
        spinner.until(lambda: node.modes and node.teleop, "mode and released command arrive")
        yield node, spinner, tmp_path
    spinner.close()
    node.destroy_node()
    rclpy.shutdown()


def test_press_drive_release_and_label(person):
    node, spinner, logs = person
    node.state(10)
    node.press(MAP.deadman_button)
    node.lead(10, 0.005)
    spinner.until(lambda: node.executed, "the takeover is answered")
    step = node.executed[0]
    assert (step.source, stamps.to_ns(step.header.stamp)) == (ExecutedStep.SOURCE_HUMAN, 10 * DT)
    np.testing.assert_allclose(step.executed, HOME + 0.005, atol=1e-6)
    node.state(11)
    node.lead(11, 0.01)
    spinner.until(lambda: len(node.commands) == 2, "the next state is answered")
    np.testing.assert_allclose(node.commands[-1].points[0].positions, HOME + 0.01, atol=1e-6)
    node.press()
    spinner.until(lambda: node.modes[-1].mode == ControlMode.HOLD, "letting go holds outside an episode")

    node.press(MAP.success_button)
    spinner.until(lambda: node.labels, "the label arrives")
    assert (node.labels[0].outcome, stamps.to_ns(node.labels[0].stamp)) == (EpisodeEvent.OUTCOME_SUCCESS, 11 * DT)
    assert "Joystick buttons: 4 hold to drive, 6 e-stop" in (logs / "takeover").read_text()


def test_a_leader_out_of_line_is_refused_and_a_joystick_that_disappears_lets_go(person):
    node, spinner, logs = person
    node.state(10)
    node.press(MAP.deadman_button)
    node.lead(10, 0.5)
    spinner.until(lambda: "differ by 0.50 rad at left_waist" in (logs / "takeover").read_text(), "the refusal is said")
    assert node.modes[-1].mode == ControlMode.RESET

    def drives() -> bool:
        node.press()
        node.lead(10)
        node.press(MAP.deadman_button)
        return node.modes[-1].mode == ControlMode.HUMAN

    spinner.until(drives, "the person drives with an aligned leader")
    node.destroy_publisher(node.joy)
    spinner.until(lambda: node.modes[-1].mode == ControlMode.HOLD, "the robot is released")

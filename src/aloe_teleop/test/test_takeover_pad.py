"""joy_reader, takeover_node and arbiter_node as on a robot: a pad drives, is unplugged, its reader is killed."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml

pytest.importorskip("evdev")

from aloe_msgs.msg import ControlMode, ExecutedStep, TeleopCommand
from diagnostic_msgs.msg import DiagnosticStatus
from evdev import ecodes
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from aloe_core.contract import load_contract
from aloe_ros import qos
from aloe_ros.convert import joint_state_msg
from aloe_ros.testing import Spinner, node_process
from fifo_pad import Plug

ALOHA = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"
CONTRACT = load_contract(ALOHA)
HOME = np.zeros(CONTRACT.action_dim)
HOME[[1, 8]], HOME[[2, 9]], HOME[[4, 11]] = -0.5, 0.5, 1.3
AXES = {"x": {"axis": 0, "speed": -0.15}, "y": {"axis": 1, "speed": 0.15}}  # a FIFO pad has three
DEADMAN, CLUTCH = ecodes.BTN_TL, ecodes.BTN_TR


class Robot(Node):
    """A robot that follows its commands at once, and what an operator can see."""

    def __init__(self) -> None:
        super().__init__("robot")
        self.position = HOME.copy()
        self.joints = self.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        self.leader = self.create_publisher(JointState, "leader/joint_states", qos.DEFAULT)
        self.modes: list[ControlMode] = []
        self.status: list[DiagnosticStatus] = []
        self.teleop: list[TeleopCommand] = []
        self.executed: list[ExecutedStep] = []
        self.joy: list[Joy] = []
        self.create_subscription(ControlMode, "control/mode", self.modes.append, qos.LATCHED)
        self.create_subscription(DiagnosticStatus, "takeover/status", self.status.append, qos.LATCHED)
        self.create_subscription(TeleopCommand, "teleop/command", self.teleop.append, qos.COMMAND)
        self.create_subscription(ExecutedStep, "control/executed", self.executed.append, qos.COMMAND)
        self.create_subscription(Joy, "joy", self.joy.append, qos.DEFAULT)
        self.create_subscription(JointTrajectory, "command/joint_trajectory", self._follow, qos.COMMAND)
        self.help = self.create_client(Trigger, "takeover_node/help")
        self.create_timer(0.02, self._state)

    @property
    def mode(self) -> int:
        return self.modes[-1].mode if self.modes else -1

    def _follow(self, msg: JointTrajectory) -> None:
        order = [msg.joint_names.index(name) for name in CONTRACT.joint_names]
        self.position = np.array(msg.points[0].positions)[order]

    def _state(self) -> None:
        self.joints.publish(joint_state_msg(CONTRACT, self.get_clock().now().nanoseconds, self.position))


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Return a function that starts the graph for a device."""
    plug = Plug(tmp_path / "event0")
    monkeypatch.setenv("ALOE_TEST_PAD", str(plug.path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]]))
    contract = tmp_path / "robot.yaml"
    changed = yaml.safe_load(ALOHA.read_text())
    changed["takeover"]["pad"] |= {"axes": AXES, "gripper": None}
    changed["staleness"] |= {"teleop": 5.0, "joint_states": 5.0}  # what follows is not the doing of a time-out
    contract.write_text(yaml.safe_dump(changed))
    rclpy.init()
    robot = Robot()
    spinner = Spinner(robot)
    with ExitStack() as stack:

        def start(device: str):
            given = {"contract": contract, "lockstep": False}
            reader = stack.enter_context(node_process("fifo_pad", {"contract": contract}, tmp_path / "reader"))
            stack.enter_context(node_process("aloe_teleop.nodes.arbiter_node", given, tmp_path / "arbiter"))
            given = {**given, "device": device, "require_presence": True, "joy_timeout": 5.0}
            stack.enter_context(node_process("aloe_teleop.nodes.takeover_node", given, tmp_path / "takeover"))
            plug.plug_in()
            up = "pad, takeover and arbiter are up"
            spinner.until(lambda: robot.joy and robot.teleop and robot.executed, up, timeout=60.0)
            spinner.until(lambda: robot.joints.get_subscription_count() >= 2, "both read joint states")
            return robot, spinner, plug, reader

        yield start
    spinner.close()
    robot.destroy_node()
    rclpy.shutdown()
    plug.unplug()


def drive(robot: Robot, spinner: Spinner, plug: Plug, done, what: str) -> None:
    """Hold dead-man and clutch until `done()`; press again whenever the person does not drive.

    A press is missed before the nodes have met, and a busy machine may let go.
    """
    seen = -100

    def pressed_and_done() -> bool:
        nonlocal seen
        if robot.mode != ControlMode.HUMAN and len(robot.joy) > seen + 10:
            seen = len(robot.joy)
            for down in (False, True):
                plug.key(DEADMAN, down)
                plug.key(CLUTCH, down)
        return robot.mode == ControlMode.HUMAN and done()

    spinner.until(pressed_and_done, what, timeout=60.0)


def test_sticks_move_the_hand_and_an_unplugged_pad_holds_the_robot(stage):
    robot, spinner, plug, _ = stage("joy")
    start = robot.position.copy()
    plug.send((ecodes.EV_ABS, ecodes.ABS_Y, -32768))
    drive(robot, spinner, plug, lambda: np.abs(robot.position[:7] - start[:7]).max() > 0.03, "the left arm moves")
    np.testing.assert_allclose(robot.position[7:], start[7:], atol=1e-6)
    assert "0 x (-0.15 m/s)" in spinner.call(robot.help, Trigger.Request()).message

    plug.unplug()
    spinner.until(lambda: robot.mode == ControlMode.HOLD, "the robot holds", timeout=4.0)
    spinner.until(lambda: "unplugged" in robot.status[-1].message, "the operator is told")
    assert "unplugged" in robot.modes[-1].cause
    assert robot.status[-1].level == DiagnosticStatus.WARN


def test_a_killed_reader_holds_the_robot(stage):
    robot, spinner, plug, reader = stage("joy")
    drive(robot, spinner, plug, lambda: True, "the person drives")
    reader.send_signal(signal.SIGKILL)
    spinner.until(lambda: robot.mode == ControlMode.HOLD, "the robot holds", timeout=4.0)


def test_a_leader_with_a_joint_of_another_robot_is_named_to_the_operator(stage):
    robot, spinner, _plug, _ = stage("leader")

    def told() -> bool:
        robot.leader.publish(JointState(name=["elbow_of_spot"], position=[0.0]))
        return any("no joint 'elbow_of_spot'" in status.message for status in robot.status)

    spinner.until(told, "the status names the joint")

"""The arbiter as a real process over real DDS."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from aloe_msgs.msg import ActionChunk, ControlMode, ExecutedStep, Task, TeleopCommand
from aloe_msgs.srv import ResetEstop, SetControlMode
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from trajectory_msgs.msg import JointTrajectory

from aloe_core.contract import load_contract
from aloe_core.kinematics import load_model
from aloe_core.types import Chunk, Inference
from aloe_ros import qos, stamps
from aloe_ros.convert import chunk_to_msg, joint_state_msg
from aloe_ros.testing import Spinner, node_process

CONTRACT_FILE = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"
CONTRACT = load_contract(CONTRACT_FILE)
DT = 20_000_000
HOME = (CONTRACT.lower + CONTRACT.upper) / 2
_ARM = [0.0, -0.518944, 0.680795, 0.0, 1.408945, np.pi / 2, 0.055]
HOME_POSE = np.array(_ARM * 2)  # hands 0.16 m over the table


class Robot(Node):
    """The test's end of every topic of the arbiter."""

    def __init__(self) -> None:
        super().__init__("robot")
        self.joints = self.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        self.chunks = self.create_publisher(ActionChunk, "policy/action_chunk", qos.COMMAND)
        self.teleop = self.create_publisher(TeleopCommand, "teleop/command", qos.COMMAND)
        self.joy = self.create_publisher(Joy, "joy", qos.DEFAULT)
        self.task = self.create_publisher(Task, "task", qos.LATCHED)
        self.set_mode = self.create_client(SetControlMode, "control/set_mode")
        self.reset_estop = self.create_client(ResetEstop, "control/reset_estop")
        self.commands: list[JointTrajectory] = []
        self.executed: list[ExecutedStep] = []
        self.modes: list[ControlMode] = []
        self.create_subscription(JointTrajectory, "command/joint_trajectory", self.commands.append, qos.COMMAND)
        self.create_subscription(ExecutedStep, "control/executed", self.executed.append, qos.COMMAND)
        self.create_subscription(ControlMode, "control/mode", self.modes.append, qos.LATCHED)
        self.spinner = Spinner(self)
        self.outputs = (self.joints, self.chunks, self.teleop, self.joy, self.task)

    def connect(self) -> None:
        self.spinner.until(lambda: all(p.get_subscription_count() for p in self.outputs), "the arbiter listens")
        self.spinner.until(lambda: self.modes, "the latched mode arrives")

    def ask(self, mode: int, cause: str = "test") -> SetControlMode.Response:
        return self.spinner.call(self.set_mode, SetControlMode.Request(mode=mode, cause=cause))

    def state(self, k: int) -> None:
        self.joints.publish(joint_state_msg(CONTRACT, k * DT, HOME))

    def chunk(self, k: int, name: str) -> None:
        actions = (HOME + 1e-4 * np.arange(50)[:, None]).astype(np.float32)
        chunk = Chunk(name, k * DT, CONTRACT.dt, actions, 25, "v1")
        self.chunks.publish(chunk_to_msg(Inference(chunk, None, 1, 0.0), CONTRACT))

    def person(self, k: int, engaged: bool, group: str = "") -> None:
        names = [j.name for j in CONTRACT.joints if engaged and group in ("", j.group)]
        msg = TeleopCommand(device="leader", engaged=engaged, joint_names=names, positions=HOME[: len(names)].tolist())
        stamps.fill(msg.header.stamp, k * DT)
        self.teleop.publish(msg)

    def estop(self, held: bool) -> None:
        buttons = [0] * 8
        buttons[CONTRACT.takeover.estop_button] = int(held)
        self.joy.publish(Joy(buttons=buttons))

    def step(self, k: int) -> ExecutedStep:
        self.spinner.until(
            lambda: self.executed and stamps.to_ns(self.executed[-1].header.stamp) == k * DT, f"step {k}"
        )
        return self.executed[-1]

    def mode(self, mode: int) -> ControlMode:
        self.spinner.until(lambda: self.modes[-1].mode == mode, f"mode {mode}")
        return self.modes[-1]


@pytest.fixture
def robot():
    rclpy.init()
    node = Robot()
    yield node
    node.spinner.close()
    node.destroy_node()
    rclpy.shutdown()


def arbiter(log: Path, **parameters):
    return node_process(
        "aloe_teleop.nodes.arbiter_node", {"contract": CONTRACT_FILE, "lockstep": True, **parameters}, log
    )


def test_an_episode_with_takeover_hand_back_and_estop_in_lock_step(robot, tmp_path):
    with arbiter(tmp_path / "log"):
        robot.connect()
        assert robot.modes[-1].mode == ControlMode.RESET  # the simulator stands still until someone asks
        robot.task.publish(Task(task="sorting", episode_id="e1", supervision="supervise"))
        robot.state(50)
        assert robot.ask(ControlMode.POLICY).success
        assert stamps.to_ns(robot.mode(ControlMode.POLICY).header.stamp) == 50 * DT
        robot.chunk(50, "first")
        step = robot.step(50)
        assert (step.source, step.chunk_id, step.chunk_index, step.tick) == (ExecutedStep.SOURCE_POLICY, "first", 0, 0)
        assert step.episode_id == "e1" and step.policy_version == "v1" and step.clamp_reasons == 0
        robot.state(51)
        assert robot.step(51).chunk_index == 1
        robot.spinner.until(lambda: len(robot.commands) == 2, "one command a joint state")
        command = robot.commands[-1]
        assert command.joint_names == CONTRACT.joint_names and stamps.to_ns(command.header.stamp) == 51 * DT
        np.testing.assert_allclose(command.points[0].positions, HOME + 1e-4, atol=1e-6)

        robot.person(52, engaged=True)
        assert robot.mode(ControlMode.HUMAN).cause == "takeover pressed"
        assert not robot.ask(ControlMode.POLICY).success
        robot.state(52)
        assert robot.step(52).source == ExecutedStep.SOURCE_HUMAN
        robot.person(52, engaged=False)
        robot.mode(ControlMode.POLICY)
        robot.state(53)
        robot.chunk(50, "first")
        robot.chunk(53, "second")
        assert (robot.step(53).chunk_id, robot.executed[-1].chunk_index) == ("second", 0)

        robot.estop(held=True)
        assert robot.mode(ControlMode.ESTOP).cause == "e-stop button pressed"
        robot.state(54)
        assert robot.step(54).source == ExecutedStep.SOURCE_HOLD
        assert "latched" in robot.ask(ControlMode.POLICY).message
        refused = robot.spinner.call(robot.reset_estop, ResetEstop.Request())
        assert not refused.success and "still held" in refused.message
        robot.estop(held=False)
        robot.state(55)
        robot.step(55)
        assert robot.spinner.call(robot.reset_estop, ResetEstop.Request()).success
        robot.mode(ControlMode.HOLD)
        assert [s.tick for s in robot.executed] == list(range(6))


def test_a_person_takes_one_arm_and_the_policy_keeps_the_other(robot, tmp_path):
    hold, policy, human = ExecutedStep.SOURCE_HOLD, ExecutedStep.SOURCE_POLICY, ExecutedStep.SOURCE_HUMAN
    with arbiter(tmp_path / "log"):
        robot.connect()
        assert robot.modes[-1].groups == ["left", "right"]
        robot.state(0)
        robot.ask(ControlMode.POLICY)
        robot.chunk(0, "first")
        assert list(robot.step(0).group_sources) == [policy, policy]
        robot.person(1, engaged=True, group="left")
        mode = robot.mode(ControlMode.HUMAN)
        assert mode.cause == "takeover pressed (left)" and list(mode.group_sources) == [human, policy]
        robot.state(1)
        robot.chunk(1, "second")
        step = robot.step(1)
        assert (step.source, step.chunk_id, list(step.group_sources)) == (human, "second", [human, policy])
        assert robot.ask(ControlMode.ESTOP).success
        assert list(robot.mode(ControlMode.ESTOP).group_sources) == [hold, hold]


def test_a_late_chunk_stops_for_good_where_the_parameter_says_so(robot, tmp_path):
    with arbiter(tmp_path / "log", lockstep_timeout=0.3, late_chunk="stop"):
        robot.connect()
        robot.state(0)
        robot.ask(ControlMode.POLICY)
        assert robot.mode(ControlMode.HOLD).cause == "the policy's next chunk is late"
        assert robot.step(0).source == ExecutedStep.SOURCE_HOLD


def test_a_command_that_would_leave_the_workspace_is_restrained_recorded_and_counted(robot, tmp_path):
    with arbiter(tmp_path / "log"):
        robot.connect()
        statuses = []
        robot.create_subscription(DiagnosticArray, "/diagnostics", lambda m: statuses.extend(m.status), qos.DEFAULT)
        low = HOME_POSE.copy()
        low[CONTRACT.joint_names.index("left_shoulder")] += 1.0  # the hand under the table
        robot.joints.publish(joint_state_msg(CONTRACT, 0, HOME_POSE))
        robot.ask(ControlMode.POLICY)
        actions = np.tile(low.astype(np.float32), (50, 1))
        robot.chunks.publish(
            chunk_to_msg(Inference(Chunk("low", 0, CONTRACT.dt, actions, 50, "v1"), None, 1, 0), CONTRACT)
        )
        for k in range(1, 30):
            robot.step(k - 1)
            robot.joints.publish(joint_state_msg(CONTRACT, k * DT, HOME_POSE))
        step = robot.step(29)
        assert step.clamp_reasons & ExecutedStep.CLAMP_WORKSPACE
        assert load_model(CONTRACT).points(np.array(step.executed))[0, 2] > -1e-4

        def counted() -> int:
            values = [{v.key: v.value for v in s.values} for s in statuses if s.name.endswith("arbiter_node")]
            return int(values[-1]["ticks_workspace"]) if values else 0

        robot.spinner.until(counted, "diagnostics count it")


def test_bad_chunks_are_refused_and_waiting_ends_with_a_flagged_hold(robot, tmp_path):
    log = tmp_path / "log"
    with arbiter(log, lockstep_timeout=0.3):
        robot.connect()
        robot.state(0)
        robot.ask(ControlMode.POLICY)
        actions = np.full((50, CONTRACT.action_dim), np.nan, dtype=np.float32)
        bad = Chunk("bad", 0, CONTRACT.dt, actions, 25, "v1")
        robot.chunks.publish(chunk_to_msg(Inference(bad, None, 1, 0.0), CONTRACT))
        step = robot.step(0)
        assert step.source == ExecutedStep.SOURCE_HOLD and step.clamp_reasons == ExecutedStep.CLAMP_STALE
    assert "row 0 is not finite" in log.read_text()


def test_a_machine_that_stood_still_is_no_late_chunk(robot, tmp_path):
    looks = []

    def hear(msg: DiagnosticArray) -> None:
        looks.extend(status for status in msg.status if status.name.endswith("arbiter_node"))

    robot.create_subscription(DiagnosticArray, "/diagnostics", hear, qos.DEFAULT)
    with arbiter(tmp_path / "log", lockstep_timeout=3.0) as process:
        robot.connect()
        robot.state(0)
        robot.ask(ControlMode.POLICY)
        process.send_signal(signal.SIGSTOP)
        over = time.monotonic() + 3.5
        try:
            robot.spinner.until(lambda: time.monotonic() > over, "more than lock-step waits is over")
        finally:
            process.send_signal(signal.SIGCONT)
        looks.clear()
        robot.spinner.until(lambda: looks, "the arbiter runs again and has looked at its time-outs")
        robot.chunk(0, "first")
        assert robot.step(0).chunk_id == "first"


def test_on_a_robot_the_timer_commands_from_the_newest_joint_state(robot, tmp_path):
    with arbiter(tmp_path / "log", lockstep=False):
        robot.connect()
        assert robot.modes[-1].mode == ControlMode.HOLD
        robot.state(7)
        robot.spinner.until(lambda: len(robot.executed) > 3, "the timer ticks")
        np.testing.assert_allclose(robot.commands[-1].points[0].positions, HOME)
        assert [s.tick for s in robot.executed[:4]] == [0, 1, 2, 3]


def test_a_missing_contract_ends_the_node_with_one_sentence_and_code_2(tmp_path):
    log = tmp_path / "log"
    with node_process("aloe_teleop.nodes.arbiter_node", {"contract": "nowhere.yaml"}, log) as process:
        assert process.wait(20) == 2
    assert log.read_text().strip().endswith("nowhere.yaml: cannot be read (No such file or directory).")


def test_a_lifecycle_manager_can_start_and_stop_it(robot, tmp_path):
    with arbiter(tmp_path / "log", autostart=False):
        change = robot.create_client(ChangeState, "arbiter_node/change_state")

        def go(transition: int) -> bool:
            request = ChangeState.Request(transition=Transition(id=transition))
            return robot.spinner.call(change, request).success

        assert go(Transition.TRANSITION_CONFIGURE)
        robot.spinner.until(robot.joints.get_subscription_count, "the arbiter listens")
        assert "not active" in robot.ask(ControlMode.HOLD).message
        assert go(Transition.TRANSITION_ACTIVATE)
        robot.connect()
        assert robot.ask(ControlMode.HOLD).success
        robot.state(1)
        robot.step(1)
        assert go(Transition.TRANSITION_DEACTIVATE) and go(Transition.TRANSITION_CLEANUP)
        robot.spinner.until(lambda: not robot.joints.get_subscription_count(), "the arbiter has let go of its topics")
        assert go(Transition.TRANSITION_CONFIGURE) and go(Transition.TRANSITION_ACTIVATE)
        robot.spinner.until(lambda: robot.modes[-1].mode == ControlMode.RESET, "it starts afresh")


def test_a_hold_asked_for_in_human_only_leaves_a_reset_alone(robot, tmp_path):
    with arbiter(tmp_path / "log"):
        robot.connect()
        ask = lambda only_in: robot.spinner.call(  # noqa: E731
            robot.set_mode, SetControlMode.Request(mode=ControlMode.HOLD, cause="lost", only_in=only_in)
        )
        assert ask(ControlMode.HUMAN).success
        refused = ask(77)
        assert not refused.success and "only_in = 77: expected" in refused.message
        assert robot.modes[-1].mode == ControlMode.RESET
        assert ask(ControlMode.RESET).success
        robot.mode(ControlMode.HOLD)


def test_a_pad_without_an_estop_button_is_told_at_once(robot, tmp_path):
    log = tmp_path / "log"
    with arbiter(log):
        robot.connect()
        robot.joy.publish(Joy(buttons=[0]))
        robot.spinner.until(lambda: "this pad cannot stop the robot" in log.read_text(), "the refusal")
        robot.estop(True)
        robot.mode(ControlMode.ESTOP)

"""An operator, a joystick and a leader arm beside the running robot; sees every command and every sentence said."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aloe_msgs.msg import ControlMode, EpisodeEvent, ExecutedStep, RecorderStatus
from aloe_msgs.srv import DisturbStation, ResetStation, StartEpisode, StopEpisode
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool

from aloe_cli.bench.faults_graph import Processes
from aloe_core.contract import RobotContract
from aloe_ros import qos, stamps
from aloe_ros.testing import Spinner

_STILL = 1e-3  # rad between two joint states; less is no motion
_TASK = ("sorting", "easy")
PATIENCE = 100.0  # s; longer than the nodes' own time-outs (60 s), whose sentences say what was waited for


class Moment(NamedTuple):
    """When a message was sent."""

    wall: float  # s of the system clock
    stamp: float  # s of the robot's time, that of the joint state it is or answers


class World(Node):
    """Every wait spins; AssertionError says what did not happen in time, with the end of the log.

    Moments are those at which the sender published: this process may lag behind.
    """

    def __init__(self, contract: RobotContract, processes: Processes) -> None:
        super().__init__("fault_operator")
        self.processes = processes
        self.contract = contract
        self.mode = -1
        self.driven: list[Moment] = []  # steps that are not HOLD, since `mark`
        self.commanded: list[Moment] = []
        self.moved: list[Moment] = []  # joint states that differ from the one before
        self.steps = {ExecutedStep.SOURCE_POLICY: 0, ExecutedStep.SOURCE_HUMAN: 0}
        self.jumps = 0  # steps over the slew limit
        self.said: list[str] = []
        self.saved: list[Path] = []
        self.recorder = RecorderStatus()
        self.stamp = 0.0  # s, of the last step
        self.now = 0.0  # s, of the newest joint state
        self._slew = contract.velocity * contract.dt + 1e-5
        self._last: ExecutedStep | None = None
        self._position: np.ndarray | None = None
        self._log_mark = 0
        self._held = False
        self._there = True
        takeover, control = contract.takeover, contract.control
        self._joy = self.create_publisher(Joy, takeover.joy_topic, qos.DEFAULT)
        self._presence = self.create_publisher(Bool, f"{takeover.joy_topic}/presence", qos.PRESENCE)
        self._leader = self.create_publisher(JointState, takeover.leader_topic, qos.DEFAULT)
        for kind, topic, callback, profile in (
            (JointState, control.joint_states_topic, self._on_state, qos.joint_states_subscription(False)),
            (ExecutedStep, "control/executed", self._on_executed, qos.command_subscription(False)),
            (ControlMode, "control/mode", self._on_mode, qos.LATCHED),
            (EpisodeEvent, "episode/event", self._on_event, qos.command_subscription(False)),
            (RecorderStatus, "recorder/status", self._on_recorder, qos.LATCHED),
            (DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.DEFAULT),
        ):
            self.create_subscription(kind, topic, callback, profile)
        self._reset = self.create_client(ResetStation, "station/reset")
        self._disturb = self.create_client(DisturbStation, "station/disturb")
        self._start = self.create_client(StartEpisode, "episode/start")
        self._stop = self.create_client(StopEpisode, "episode/stop")
        self.create_timer(0.05, self._autorepeat)
        self._spinner = Spinner(self)

    def close(self) -> None:
        self._spinner.close()
        self.destroy_node()

    # Waiting ------------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
        try:
            self._spinner.until(condition, what, timeout)
        except AssertionError as error:
            tail = self.processes.log.read_text(errors="replace")[-3000:]
            raise AssertionError(f"{error}\n{tail}") from error

    def spin(self, seconds: float) -> None:
        """Let the world go on for a while: part of a scenario, nothing is waited for."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, "time goes on", seconds + 60.0)

    def last(self, seconds: float) -> None:
        """Let the world go on for a while by its own clock and by the robot's, which a busy machine slows down."""
        end = self.now + seconds
        self.spin(seconds)
        self.until(lambda: self.now >= end, "the robot's time goes on", 60.0)

    def heard(self, pattern: Callable[[str], object], timeout: float) -> str:
        """Return the first sentence said since `mark` that fits, empty if there is none within `timeout` s."""
        end = time.monotonic() + timeout
        while True:
            for sentence in (*self.said, *self.processes.worries(self._log_mark)):
                if pattern(sentence):
                    return sentence
            if time.monotonic() >= end:
                return ""
            self._spinner.executor.spin_once(timeout_sec=0.05)

    def mark(self) -> None:
        """Forget what was said and done so far."""
        for seen in (self.said, self.driven, self.commanded, self.moved):
            seen.clear()
        self._log_mark = self.processes.log.stat().st_size

    # The operator -------------------------------------------------------------------------------------------------

    def connect(self, seed: int) -> None:
        """Put the robot into its start state and wait until everybody is there."""
        answer = self._spinner.call(self._reset, ResetStation.Request(task=_TASK[0], level=_TASK[1], seed=seed), 120.0)
        assert answer.success, answer.message
        outputs = (self._joy, self._leader)
        self.until(lambda: all(p.get_subscription_count() for p in outputs), "takeover_node listens", 120.0)
        self.until(lambda: self.commanded, "the arbiter commands", 120.0)

    def begin(self, seed: int, folder: Path | None = None) -> None:
        """Start an episode and wait until the policy drives it."""
        request = StartEpisode.Request(
            task=_TASK[0],
            level=_TASK[1],
            seed=seed,
            supervision="supervise",
            time_limit=600.0,
            folder=str(folder or ""),
        )
        answer = self._spinner.call(self._start, request, 120.0)
        end = time.monotonic() + 60.0
        while "not finished" in answer.message and time.monotonic() < end:  # the manager concludes the last one
            self.spin(0.2)
            answer = self._spinner.call(self._start, request, 120.0)
        assert answer.success, answer.message
        self.await_steps(ExecutedStep.SOURCE_POLICY, 10)

    def await_steps(self, source: int, count: int, timeout: float = 120.0) -> None:
        """Wait for `count` more steps of `source`."""
        enough = self.steps[source] + count
        self.until(lambda: self.steps[source] >= enough, f"{count} steps of source {source}", timeout)

    def take_over(self) -> None:
        """Press the dead-man until the person drives: on a busy machine this leader may be late at first."""
        while not self.person_drives:
            self.press(False)
            self.spin(0.2)
            self.press(True)
            self.spin(0.5)

    @property
    def person_drives(self) -> bool:
        return self.mode == ControlMode.HUMAN

    def press(self, held: bool) -> None:
        self._held = held
        self._autorepeat()

    def plug(self, there: bool) -> None:
        """Plug the joystick in or out; its driver goes on repeating its last message."""
        self._there = there
        self._autorepeat()

    def freeze(self, camera: str, seconds: float) -> None:
        request = DisturbStation.Request(kind="freeze", target=camera, duration=seconds)
        answer = self._spinner.call(self._disturb, request, 60.0)
        assert answer.success, answer.message

    def end(self) -> None:
        """End the episode if it still runs and wait for its bag."""
        if self.recorder.state != RecorderStatus.RECORDING:
            return
        count = len(self.saved)
        self._spinner.call(self._stop, StopEpisode.Request(), 60.0)
        self.until(lambda: len(self.saved) > count, "the bag is saved")

    def _autorepeat(self) -> None:
        self._presence.publish(Bool(data=self._there))  # again and again, as its lease may have run out meanwhile
        buttons = [0] * 16
        buttons[self.contract.takeover.deadman_button] = int(self._held)
        self._joy.publish(Joy(axes=[0.0] * 8, buttons=buttons))

    # What is seen -------------------------------------------------------------------------------------------------

    def _on_state(self, msg: JointState, info: dict) -> None:
        self._leader.publish(msg)
        self.now = stamps.to_ns(msg.header.stamp) * 1e-9
        position = np.asarray(msg.position)
        if self._position is not None and np.abs(position - self._position).max() > _STILL:
            self.moved.append(_moment(msg, info))
        self._position = position

    def _on_executed(self, step: ExecutedStep, info: dict) -> None:
        self.stamp = stamps.to_ns(step.header.stamp) * 1e-9
        self.commanded.append(_moment(step, info))  # a command goes out with every step
        if step.source in self.steps:
            self.driven.append(_moment(step, info))
            self.steps[step.source] += 1
        if self._last is not None and step.tick == self._last.tick + 1:
            moved = np.abs(np.asarray(step.executed) - np.asarray(self._last.executed))
            self.jumps += bool((moved > self._slew).any())
        self._last = step

    def _on_mode(self, msg: ControlMode) -> None:
        self.mode = msg.mode
        self.said.append(f"control/mode: {msg.cause}")

    def _on_event(self, msg: EpisodeEvent) -> None:
        if msg.event == EpisodeEvent.SAVED:
            self.saved.append(Path(msg.detail))
        if msg.detail:
            self.said.append(f"episode/event: {msg.detail}")

    def _on_recorder(self, msg: RecorderStatus) -> None:
        self.recorder = msg
        self.said += [f"recorder/status: {words}" for words in (msg.detail, msg.quality) if words]

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        self.said += [f"{s.name}: {s.message}" for s in msg.status if s.level != DiagnosticStatus.OK]


def _moment(msg: ExecutedStep | JointState, info: dict) -> Moment:
    return Moment(info["source_timestamp"] * 1e-9, stamps.to_ns(msg.header.stamp) * 1e-9)

"""The only writer of robot commands: policy chunks and a person's commands in, one filtered command a tick out."""

import sys
import time

import aloe_msgs.msg as msgs
from aloe_msgs.srv import ResetEstop as ResetEstopService
from aloe_msgs.srv import SetControlMode
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState, Joy

from aloe_core.arbiter import Arbiter
from aloe_core.control import (
    AskMode,
    Change,
    Decision,
    EstopButton,
    Event,
    LateChunk,
    Mode,
    ResetEstop,
    RobotState,
    TaskInfo,
    Teleop,
    Tick,
)
from aloe_core.errors import AloeError
from aloe_core.kinematics import load_model
from aloe_core.motion import Clamp
from aloe_ros import qos, stamps
from aloe_ros.convert import JointReader, JointSubsetReader, chunk_from_msg
from aloe_ros.diagnostics import OK, WARN, Diagnostics
from aloe_ros.node import AloeLifecycleNode, run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep
from aloe_teleop.awake import AwakeClock
from aloe_teleop.outputs import Outputs

_LOOK = 0.1  # s between looks at the time-outs of lock-step


class ArbiterNode(AloeLifecycleNode):
    """Feeds `aloe_core.arbiter.Arbiter` and publishes what it decides; see docs/architecture.md.

    The e-stop button is read from joy here, so it works while takeover_node is down. In lock-step it starts in
    RESET (the simulator stands still), on a robot in HOLD. While not active it commands nothing.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("arbiter_node", **kwargs)
        self._contract = declare_contract(self)
        self._lockstep = declare_lockstep(self)
        self._timeout = declare(
            self,
            "lockstep_timeout",
            20.0,
            "Seconds that lock-step waits for a chunk or a person's command before it holds; while this node itself "
            "stands still none pass.",
            low=0.1,
            high=600.0,
        )
        late_chunk = declare(
            self,
            "late_chunk",
            LateChunk.HOLD.value,
            "When the policy's next chunk is late: hold the last command after the chunk's last row, play the rows "
            "after its execute steps ever slower, or stop after its last row until a mode is requested.",
            choices=[policy.value for policy in LateChunk],
        )
        self._late_chunk = LateChunk(late_chunk)
        self._model = load_model(self._contract)
        self._arbiter: Arbiter | None = None
        self._awake = AwakeClock(round(2 * _LOOK * 1e9))
        self._latest: dict[type, Event] = {}  # task and e-stop button, for an activation after they came
        self._refused_inputs = 0
        self._stale_told = 0  # ticks held for a missing input that the diagnostics have told

    def configure(self) -> None:
        contract = self._contract
        self._joints = JointReader(contract)
        self._person = JointSubsetReader(contract, "Teleop command")
        self._outputs = Outputs(self, contract)
        self._inputs = [
            self.create_subscription(kind, topic, callback, profile)
            for kind, topic, callback, profile in (
                (
                    JointState,
                    contract.control.joint_states_topic,
                    self._on_joint_state,
                    qos.joint_states_subscription(self._lockstep),
                ),
                (msgs.ActionChunk, "policy/action_chunk", self._on_chunk, qos.command_subscription(self._lockstep)),
                (msgs.TeleopCommand, "teleop/command", self._on_teleop, qos.command_subscription(self._lockstep)),
                (Joy, contract.takeover.joy_topic, self._on_joy, qos.DEFAULT),
                (msgs.Task, "task", self._on_task, qos.LATCHED),
            )
        ]
        self._served = [
            self.create_service(SetControlMode, "control/set_mode", self._set_mode),
            self.create_service(ResetEstopService, "control/reset_estop", self._reset_estop),
        ]
        if self._lockstep:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = self.create_timer(_LOOK, self._check_timeout, clock=steady)
        else:
            self._timer = self.create_timer(contract.dt, self._tick)
        self._diagnostics = Diagnostics(self, self._report)

    def activate(self) -> None:
        start = Mode.RESET if self._lockstep else Mode.HOLD
        self._stale_told = 0
        self._arbiter = Arbiter(
            self._contract,
            lockstep=self._lockstep,
            start=start,
            lockstep_timeout=self._timeout,
            late_chunk=self._late_chunk,
            model=self._model,
        )
        self._outputs.change(Change(start, start, "start", 0, 0, self._arbiter.group_source))
        for event in self._latest.values():
            self._update(event)

    def deactivate(self) -> None:
        self._arbiter = None

    def cleanup(self) -> None:
        self._arbiter = None
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        for service in self._served:
            self.destroy_service(service)
        self.destroy_timer(self._timer)
        self._diagnostics.close()
        self._outputs.close()

    # Inputs -------------------------------------------------------------------------------------------------------

    def _on_joint_state(self, msg: JointState) -> None:
        try:
            position = self._joints.read(msg)
        except AloeError as error:
            self._refuse(error)
            return
        self._update(RobotState(stamps.to_ns(msg.header.stamp), position))

    def _on_chunk(self, msg: msgs.ActionChunk) -> None:
        try:
            chunk = chunk_from_msg(msg, self._contract)
        except AloeError as error:
            self._refuse(error)
            return
        self._update(chunk)

    def _on_teleop(self, msg: msgs.TeleopCommand) -> None:
        try:
            joints, positions = self._person.read(msg.joint_names, msg.positions)
        except AloeError as error:
            self._refuse(error)
            return
        self._update(Teleop(stamps.to_ns(msg.header.stamp), msg.engaged, joints, positions))

    def _on_joy(self, msg: Joy) -> None:
        takeover = self._contract.takeover
        if len(msg.buttons) <= takeover.estop_button:
            self._refuse(
                AloeError(
                    f"Joy has {len(msg.buttons)} buttons, but the e-stop is button {takeover.estop_button}: this pad "
                    "cannot stop the robot; check the button map."
                )
            )
            return
        pressed = {button for button, level in enumerate(msg.buttons) if level}
        deadmen = {takeover.deadman_button, *takeover.deadman_buttons.values()}
        self._update(EstopButton(takeover.estop_button in pressed, bool(pressed & deadmen)))

    def _on_task(self, msg: msgs.Task) -> None:
        self._update(TaskInfo(msg.episode_id, msg.supervision))

    def _tick(self) -> None:
        self._update(Tick())

    def _check_timeout(self) -> None:
        self._awake.look(time.monotonic_ns())
        timeouts = self._arbiter.counts.timeouts if self._arbiter is not None else 0
        self._update(None)
        if self._arbiter is not None and self._arbiter.counts.timeouts > timeouts:
            self.get_logger().warning(f"Held one step: nothing to run in {self._mode} for {self._timeout} s.")

    # Services -----------------------------------------------------------------------------------------------------

    def _set_mode(self, request, response):
        if request.mode not in set(Mode):
            response.message = f"mode = {request.mode}: expected 0 to {max(Mode)} (ControlMode)."
            return response
        if request.only_in != request.ANY and request.only_in not in set(Mode):
            response.message = f"only_in = {request.only_in}: expected 0 to {max(Mode)} (ControlMode) or ANY."
            return response
        only_in = None if request.only_in == request.ANY else Mode(request.only_in)
        return self._answer(self._update(AskMode(Mode(request.mode), request.cause, only_in)), response)

    def _reset_estop(self, _request, response):
        return self._answer(self._update(ResetEstop()), response)

    def _answer(self, decision: Decision | None, response):
        response.message = "The arbiter is not active." if decision is None else decision.refusal
        response.success = not response.message
        return response

    # Decisions ----------------------------------------------------------------------------------------------------

    def _update(self, event: Event | None) -> Decision | None:
        if isinstance(event, TaskInfo | EstopButton):
            self._latest[type(event)] = event
        if self._arbiter is None:
            return None
        # Only time-outs look at the time in lock-step. On a robot a stand-still makes inputs stale, whatever its cause.
        decision = self._arbiter.update(self._awake.now if self._lockstep else time.monotonic_ns(), event)
        if decision.change is not None:
            self._outputs.change(decision.change)
            change = decision.change
            self.get_logger().info(f"{change.previous.name} -> {change.mode.name}: {change.cause}")
        if decision.step is not None:
            self._outputs.step(decision.step)
        return decision

    def _refuse(self, error: AloeError) -> None:
        self._refused_inputs += 1
        self.get_logger().error(str(error), throttle_duration_sec=1.0)

    @property
    def _mode(self) -> str:
        return self._arbiter.mode.name if self._arbiter is not None else "not active"

    def _report(self):
        if self._arbiter is None:
            return WARN, "not active", {}
        counts = self._arbiter.counts
        values = {
            "mode": self._mode,
            "mode_changes": self._arbiter.sequence,
            "lockstep": self._lockstep,
            "lockstep_timeouts": counts.timeouts,
            "held_for_missing_input": counts.stale,
            "chunks_fenced": counts.fenced,
            "nonfinite_requests": counts.nonfinite,
            "late_chunks": counts.late_chunks,
            "old_joint_states": counts.old_states,
            "workspace_watched": self._model is not None,
            **{f"ticks_{reason.name.lower()}": counts.clamps[reason] for reason in Clamp if reason},
            "inputs_refused": self._refused_inputs,
        }
        held, self._stale_told = counts.stale - self._stale_told, counts.stale
        if self._arbiter.mode is Mode.ESTOP:
            return WARN, "e-stop is latched: release the buttons, then call control/reset_estop", values
        if held > 0 and not self._lockstep:
            return (
                WARN,
                f"{self._mode}: no fresh input from what drives, held {held} ticks in the last second",
                values,
            )
        if counts.timeouts or self._refused_inputs:
            return WARN, f"{counts.timeouts} time-outs, {self._refused_inputs} inputs refused", values
        return OK, self._mode, values


def main() -> int:
    return run(ArbiterNode)


if __name__ == "__main__":
    sys.exit(main())

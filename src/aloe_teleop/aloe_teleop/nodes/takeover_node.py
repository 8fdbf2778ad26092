"""A person's way in: joystick and leader arms become teleop/command and episode labels."""

import sys
import time

from aloe_msgs.msg import ControlMode, ExecutedStep, TeleopCommand
from aloe_msgs.srv import LabelEpisode, SetControlMode
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from aloe_core.control import Teleop
from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError
from aloe_core.kinematics import load_model
from aloe_ros import qos, stamps
from aloe_ros.convert import JointReader, JointSubsetReader
from aloe_ros.diagnostics import OK, WARN, Diagnostics
from aloe_ros.node import run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep
from aloe_teleop.joystick import help_text
from aloe_teleop.outputs import floats32
from aloe_teleop.takeover import Reaction, Takeover


class TakeoverNode(Node):
    """Feeds `aloe_teleop.takeover.Takeover`; see docs/teleop.md. The e-stop button is read by the arbiter itself."""

    def __init__(self, **kwargs) -> None:
        super().__init__("takeover_node", **kwargs)
        contract = self._contract = declare_contract(self)
        lockstep = declare_lockstep(self)
        joy_timeout = declare(
            self,
            "joy_timeout",
            0.5,
            "Seconds of silence on joy that let go of the robot; 0 for a driver without autorepeat; off in lock-step.",
            low=0.0,
            high=10.0,
        )
        needs_presence = declare(
            self,
            "require_presence",
            False,
            "No dead-man counts unless joy/presence says that the joystick is there (joy_reader says so).",
        )
        self._device = declare(
            self,
            "device",
            "leader",
            "What drives: leader arms, or the joystick alone (joy); written into commands.",
            choices=("leader", "joy"),
        )
        self._operator = declare(self, "operator_name", "", "Person who labels episodes.")
        clutch = self._device == "joy"
        self._takeover = Takeover(
            contract,
            lockstep=lockstep,
            joy_timeout=0.0 if lockstep else joy_timeout,
            needs_presence=needs_presence,
            clutch=clutch,
            model=load_model(contract) if clutch else None,
        )
        self._help = help_text(contract, drives=clutch)
        self._follower = JointReader(contract)
        self._executed = JointReader(contract, "Executed step")
        self._leader = JointSubsetReader(contract, "Leader")
        self._refused = self._bad_inputs = 0
        self._bad_input = ""  # the last one, said until a takeover engages
        self._said: tuple[str, ...] = ()

        self._commands = self.create_publisher(TeleopCommand, "teleop/command", qos.COMMAND)
        self._status = self.create_publisher(DiagnosticStatus, "takeover/status", qos.LATCHED)
        self._labels = self.create_client(LabelEpisode, "episode/label")
        self._modes = self.create_client(SetControlMode, "control/set_mode")
        self.create_service(Trigger, "~/help", self._on_help)
        takeover, control = contract.takeover, contract.control
        self._joy = self.create_subscription(Joy, takeover.joy_topic, self._on_joy, qos.DEFAULT)
        self.create_subscription(
            Bool,
            f"{takeover.joy_topic}/presence",
            lambda msg: self._react(self._takeover.on_presence(msg.data)),
            qos.PRESENCE,
            event_callbacks=SubscriptionEventCallbacks(liveliness=self._on_liveliness),
        )
        self.create_subscription(JointState, takeover.leader_topic, self._on_leader, qos.DEFAULT)
        self.create_subscription(
            JointState, control.joint_states_topic, self._on_joint_state, qos.joint_states_subscription(lockstep)
        )
        if clutch or takeover.ramp:  # else a takeover does not begin at the robot's command
            self.create_subscription(
                ExecutedStep, "control/executed", self._on_executed, qos.command_subscription(lockstep=False)
            )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.1, self._watch, clock=steady)
        self._pulse = self.create_timer(1.0, self._heartbeat, clock=steady)
        self._diagnostics = Diagnostics(self, self._report)
        self.get_logger().info(self._help)

    # Inputs -------------------------------------------------------------------------------------------------------

    def _on_joy(self, msg: Joy) -> None:
        self._react(self._takeover.on_joy(time.monotonic_ns(), msg.buttons, msg.axes))

    def _on_liveliness(self, event) -> None:
        if event.alive_count == 0 and event.alive_count_change < 0:
            self._react(self._takeover.on_presence(False))

    def _on_leader(self, msg: JointState) -> None:
        try:
            joints, positions = self._leader.read(msg.name, msg.position)
        except AloeError as error:
            self._refuse_input(error)
            return
        stamp = stamps.to_ns(msg.header.stamp)
        self._react(self._takeover.on_leader(time.monotonic_ns(), stamp, joints, positions))

    def _on_joint_state(self, msg: JointState) -> None:
        try:
            position = self._follower.read(msg)
        except AloeError as error:
            self._refuse_input(error)
            return
        self._react(self._takeover.on_follower(time.monotonic_ns(), stamps.to_ns(msg.header.stamp), position))

    def _on_executed(self, msg: ExecutedStep) -> None:
        try:
            position = self._executed.positions(msg.joint_names, msg.executed)
        except AloeError as error:
            self._refuse_input(error)
            return
        self._takeover.on_executed(stamps.to_ns(msg.header.stamp), position)

    def _watch(self) -> None:
        present = self.count_publishers(self._joy.topic_name) > 0
        self._react(self._takeover.watch(time.monotonic_ns(), present))

    def _heartbeat(self) -> None:
        """Say again that nobody drives: an arbiter that missed the release would wait for it."""
        if not self._takeover.engaged:
            self._send(self._takeover.released())

    def _on_help(self, _request, response):
        response.success, response.message = True, self._help
        return response

    # What follows -------------------------------------------------------------------------------------------------

    def _react(self, reaction: Reaction) -> None:
        if reaction.command is not None:
            self._send(reaction.command)
        if reaction.hold:
            self._ask_hold(reaction.refusal)
        if reaction.label is not None:
            self._label(reaction.label)
        if reaction.help:
            self.get_logger().info(self._help)
        if reaction.refusal:
            self._refused += 1
            self.get_logger().warning(reaction.refusal, throttle_duration_sec=1.0)
        self._say_changes()

    def _send(self, command: Teleop) -> None:
        msg = TeleopCommand(
            device=self._device,
            engaged=command.engaged,
            joint_names=[self._contract.joints[joint].name for joint in command.joints],
            positions=floats32(command.positions),
        )
        stamps.fill(msg.header.stamp, command.stamp)
        self._commands.publish(msg)

    def _ask_hold(self, cause: str) -> None:
        """Ask for HOLD if the person still drives: in RESET something else moves the robot, and the arbiter must not.

        On a robot the arbiter also holds by itself, since no further command comes.
        """
        self._pulse.reset()  # a released command that overtook the request would hand back to the policy
        if not self._modes.service_is_ready():
            self.get_logger().error("No arbiter offers control/set_mode: HOLD was not asked for.")
            return
        request = SetControlMode.Request(mode=ControlMode.HOLD, cause=cause, only_in=ControlMode.HUMAN)
        self._modes.call_async(request).add_done_callback(self._hold_answered)

    def _hold_answered(self, future) -> None:
        if not future.result().success:
            self.get_logger().error(future.result().message)

    def _label(self, outcome: Outcome) -> None:
        if not self._labels.service_is_ready():
            self.get_logger().warning("Label dropped: no episode_manager offers episode/label.")
            return
        request = LabelEpisode.Request(outcome=int(outcome), operator_name=self._operator)
        stamps.fill(request.stamp, self._takeover.newest_stamp)
        self._labels.call_async(request).add_done_callback(lambda future: self._labelled(outcome, future.result()))

    def _labelled(self, outcome: Outcome, response: LabelEpisode.Response) -> None:
        if response.success:
            self.get_logger().info(f"Episode labelled {outcome.name.lower()}.")
        else:
            self.get_logger().warning(response.message)

    def _refuse_input(self, error: AloeError) -> None:
        self._bad_inputs += 1
        self._bad_input = str(error)
        self.get_logger().error(str(error), throttle_duration_sec=1.0)
        self._say_changes()

    # Status -------------------------------------------------------------------------------------------------------

    def _say_changes(self) -> None:
        """Publish the status, latched, when a grip, the selected arm or a refusal changes."""
        takeover = self._takeover
        if takeover.engaged:
            self._bad_input = ""
        now = (*(grip.name for grip in takeover.grips.values()), takeover.selected, takeover.refusal, self._bad_input)
        if now != self._said:
            self._said = now
            self._status.publish(self._diagnostics.status())
            self._diagnostics.publish()

    def _report(self):
        takeover = self._takeover
        values = {
            **{f"grip.{group}": grip.name for group, grip in takeover.grips.items()},
            "device": self._device,
            "selected": takeover.selected,
            "takeovers_refused": self._refused,
            "inputs_refused": self._bad_inputs,
            "buttons": self._help,
        }
        wrong = takeover.refusal or self._bad_input
        if wrong:
            return WARN, wrong, values
        driven = " and ".join(takeover.engaged)
        return OK, f"drives {driven}" if driven else takeover.grip.name.lower(), values


def main() -> int:
    return run(TakeoverNode)


if __name__ == "__main__":
    sys.exit(main())

"""A person's way in: joystick buttons and a leader arm become teleop/command and episode labels."""

import sys
import time

from aloe_msgs.msg import TeleopCommand
from aloe_msgs.srv import LabelEpisode
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy

from aloe_core.control import Teleop
from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError
from aloe_ros import qos, stamps
from aloe_ros.convert import JointReader, JointSubsetReader
from aloe_ros.diagnostics import OK, WARN, Diagnostics
from aloe_ros.node import run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep
from aloe_teleop.outputs import floats32
from aloe_teleop.takeover import Grip, Reaction, Takeover, button_map


class TakeoverNode(Node):
    """Feeds `aloe_teleop.takeover.Takeover`. The e-stop button is read by the arbiter itself."""

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
        self._device = declare(self, "device", "leader", "Name of the device, written into commands.")
        self._operator = declare(self, "operator_name", "", "Person who labels episodes.")
        self._takeover = Takeover(contract, lockstep=lockstep, joy_timeout=0.0 if lockstep else joy_timeout)
        self._follower = JointReader(contract)
        self._leader = JointSubsetReader(contract, "Leader")
        self._refused = self._bad_inputs = 0

        self._commands = self.create_publisher(TeleopCommand, "teleop/command", qos.COMMAND)
        self._labels = self.create_client(LabelEpisode, "episode/label")
        takeover, control = contract.takeover, contract.control
        self._joy = self.create_subscription(Joy, takeover.joy_topic, self._on_joy, qos.DEFAULT)
        self.create_subscription(JointState, takeover.leader_topic, self._on_leader, qos.DEFAULT)
        self.create_subscription(
            JointState, control.joint_states_topic, self._on_joint_state, qos.joint_states_subscription(lockstep)
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.1, self._watch, clock=steady)
        self.create_timer(1.0, self._heartbeat, clock=steady)
        self._diagnostics = Diagnostics(self, self._report)
        self.get_logger().info(button_map(contract))

    def _on_joy(self, msg: Joy) -> None:
        self._react(self._takeover.on_joy(time.monotonic_ns(), msg.buttons))

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

    def _watch(self) -> None:
        present = self.count_publishers(self._joy.topic_name) > 0
        self._react(self._takeover.watch(time.monotonic_ns(), present))

    def _heartbeat(self) -> None:
        """Say again that nobody drives: an arbiter that missed the release would wait for it."""
        if self._takeover.grip is not Grip.ENGAGED:
            self._send(self._takeover.released())

    def _react(self, reaction: Reaction) -> None:
        if reaction.command is not None:
            self._send(reaction.command)
        if reaction.label is not None:
            self._label(reaction.label)
        if reaction.refusal:
            self._refused += 1
            self.get_logger().warning(reaction.refusal, throttle_duration_sec=1.0)

    def _send(self, command: Teleop) -> None:
        msg = TeleopCommand(
            device=self._device,
            engaged=command.engaged,
            joint_names=[self._contract.joints[joint].name for joint in command.joints],
            positions=floats32(command.positions),
        )
        stamps.fill(msg.header.stamp, command.stamp)
        self._commands.publish(msg)

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
        self.get_logger().error(str(error), throttle_duration_sec=1.0)

    def _report(self):
        values = {
            "grip": self._takeover.grip.name,
            "takeovers_refused": self._refused,
            "inputs_refused": self._bad_inputs,
            "buttons": button_map(self._contract),
        }
        if self._takeover.refusal:
            return WARN, self._takeover.refusal, values
        return OK, self._takeover.grip.name.lower(), values


def main() -> int:
    return run(TakeoverNode)


if __name__ == "__main__":
    sys.exit(main())

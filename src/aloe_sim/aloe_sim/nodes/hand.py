"""What a person holds: the dead-man of a joystick and a leader arm."""

from array import array

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy

from aloe_core.contract import RobotContract
from aloe_ros import qos, stamps


class Hand:
    """Publishes joy and leader/joint_states as the contract's takeover section says; stamps in ns."""

    def __init__(self, node: Node, contract: RobotContract) -> None:
        takeover = contract.takeover
        self.pressed = False
        self._stamp = 0  # of the newest joy
        self._deadman = takeover.deadman_button
        self._period = round(min(0.1, contract.staleness.teleop) / 2 * 1e9)
        self._joy = node.create_publisher(Joy, takeover.joy_topic, qos.DEFAULT)
        self._leader = node.create_publisher(JointState, takeover.leader_topic, qos.DEFAULT)
        buttons = (takeover.deadman_button, takeover.estop_button, takeover.success_button, takeover.failure_button)
        self._joy_msg = Joy(buttons=[0] * (1 + max(buttons)))
        self._leader_msg = JointState(name=contract.joint_names)

    @property
    def has_listener(self) -> bool:
        """Whether somebody reads the leader arm."""
        return self._leader.get_subscription_count() > 0

    def press(self, stamp: int) -> None:
        """Hold the dead-man; say so on change and every now and then, since a joystick that falls silent is lost."""
        if not self.pressed or stamp - self._stamp >= self._period:
            self._say(True, stamp)

    def release(self) -> None:
        """Let the dead-man go."""
        if self.pressed:
            self._say(False, self._stamp)

    def lead(self, stamp: int, positions: np.ndarray) -> None:
        """Move the leader arm to `positions` [J] (contract order) in answer to the state at `stamp`."""
        stamps.fill(self._leader_msg.header.stamp, stamp)
        self._leader_msg.position = array("d", positions.astype(np.float64).tobytes())
        self._leader.publish(self._leader_msg)

    def _say(self, pressed: bool, stamp: int) -> None:
        self.pressed, self._stamp = pressed, stamp
        self._joy_msg.buttons[self._deadman] = int(pressed)
        stamps.fill(self._joy_msg.header.stamp, stamp)
        self._joy.publish(self._joy_msg)

"""What follows from a fall of the critic's value: a hint to the operator and, if wanted, a robot that waits for one."""

from __future__ import annotations

from aloe_msgs.msg import ControlMode
from aloe_msgs.srv import SetControlMode
from rclpy.node import Node
from rclpy.task import Future

from aloe_policy.value_alarm import NO_FLOOR, AlarmRule, ValueAlarm
from aloe_ros.parameters import declare


class ValueWatch:
    """A ValueAlarm with its parameters. Nothing here waits for anybody. Not thread-safe."""

    def __init__(self, node: Node) -> None:
        self._node = node
        drop = declare(
            node,
            "alarm_drop",
            0.0,
            "Fall of q_min within alarm_chunks that raises the alarm; 0: off.",
            low=0.0,
            high=10.0,
        )
        floor = declare(
            node,
            "alarm_floor",
            NO_FLOOR,
            f"alarm_chunks values of q_min in a row below this raise the alarm; {NO_FLOOR:g}: off.",
            low=NO_FLOOR,
            high=10.0,
        )
        chunks = declare(node, "alarm_chunks", 5, "Chunks that the alarm looks at.", low=1, high=1000)
        hold = declare(node, "alarm_hold", False, "An alarm asks the arbiter to HOLD, so that a person takes over.")
        self._alarm = ValueAlarm(AlarmRule(drop, floor, chunks))
        self._modes = node.create_client(SetControlMode, "control/set_mode") if hold else None
        self._sequence = -1  # of the mode

    @property
    def raised(self) -> str:
        """Why a person should look; empty: no reason."""
        return self._alarm.raised

    def on_mode(self, sequence: int) -> None:
        """After every change of mode the values begin anew."""
        if sequence != self._sequence:
            self._sequence = sequence
            self._alarm.begin()

    def on_episode(self) -> None:
        self._alarm.begin()

    def see(self, stamp: int, value: float) -> None:
        """Take q_min of a chunk that is published, observed at `stamp` (ns)."""
        if not self._alarm.see(stamp, value):
            return
        self._node.get_logger().warning(self.raised)
        if self._modes is None:
            return
        if not self._modes.service_is_ready():
            self._node.get_logger().error("No arbiter offers control/set_mode: HOLD was not asked for.")
            return
        request = SetControlMode.Request(
            mode=ControlMode.HOLD, cause=f"{self.raised} Take over.", only_in=ControlMode.POLICY
        )
        self._modes.call_async(request).add_done_callback(self._answered)

    def _answered(self, future: Future) -> None:
        if not future.result().success:
            self._node.get_logger().error(future.result().message)

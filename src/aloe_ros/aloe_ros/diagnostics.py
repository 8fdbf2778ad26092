"""One DiagnosticStatus a second."""

import time
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from aloe_ros import qos

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)
Report = tuple[bytes, str, Mapping[str, object]]
_PERIOD = 1.0  # s
_PAUSE = 1.9  # s between two reports that are told: one was due in between, whatever the machine is busy with


class Diagnostics:
    """Publishes `report()` on /diagnostics at 1 Hz of wall time, also while simulated time stands still.

    `report` returns (level, message, values); it runs in the node's executor. An executor that did not run for a
    while (a stopped process, a blocking callback, a machine that is overloaded) is told in the log when it goes on.
    """

    def __init__(self, node: Node, report: Callable[[], Report], callback_group=None) -> None:
        self._node = node
        self._report = report
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.DEFAULT)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._turned = time.monotonic()
        self._timer = node.create_timer(_PERIOD, self._turn, clock=steady, callback_group=callback_group)

    def close(self) -> None:
        """Stop publishing; for the clean-up of a lifecycle node."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def _turn(self) -> None:
        now = time.monotonic()
        pause, self._turned = now - self._turned, now
        if pause > _PAUSE:
            self._node.get_logger().warning(
                f"Nothing ran here for up to {pause:.1f} s: stopped, blocked, or the machine is overloaded."
            )
        self.publish()

    def status(self) -> DiagnosticStatus:
        """Return what `report` says now."""
        level, message, values = self._report()
        return DiagnosticStatus(
            level=level,
            name=self._node.get_fully_qualified_name(),
            message=message,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def publish(self) -> None:
        """Publish now; call it as well when something just went wrong."""
        array = DiagnosticArray(status=[self.status()])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

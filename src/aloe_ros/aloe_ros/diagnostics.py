"""One DiagnosticStatus a second."""

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


class Diagnostics:
    """Publishes `report()` on /diagnostics at 1 Hz of wall time, also while simulated time stands still.

    `report` returns (level, message, values); it runs in the node's executor.
    """

    def __init__(self, node: Node, report: Callable[[], Report], callback_group=None) -> None:
        self._node = node
        self._report = report
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.DEFAULT)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(1.0, self.publish, clock=steady, callback_group=callback_group)

    def close(self) -> None:
        """Stop publishing; for the clean-up of a lifecycle node."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

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

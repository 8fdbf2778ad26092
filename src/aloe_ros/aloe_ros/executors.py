"""The executor that messages wake, where rclpy has it (ADR 21)."""

from rclpy.executors import SingleThreadedExecutor

try:
    from rclpy.experimental import EventsExecutor
except ImportError:  # rclpy before 7.1.4
    EventsExecutor = SingleThreadedExecutor

__all__ = ["EventsExecutor"]

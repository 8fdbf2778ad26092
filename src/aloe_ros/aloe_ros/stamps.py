"""ROS stamps as integer nanoseconds."""

from builtin_interfaces.msg import Time

_SECOND = 1_000_000_000


def to_ns(stamp: Time) -> int:
    """Return `stamp` in ns."""
    return stamp.sec * _SECOND + stamp.nanosec


def to_msg(ns: int) -> Time:
    """Return the stamp of `ns` nanoseconds."""
    sec, nanosec = divmod(ns, _SECOND)
    return Time(sec=sec, nanosec=nanosec)


def fill(stamp: Time, ns: int) -> None:
    """Write `ns` nanoseconds into an existing stamp; for messages that are reused every tick."""
    stamp.sec, stamp.nanosec = divmod(ns, _SECOND)

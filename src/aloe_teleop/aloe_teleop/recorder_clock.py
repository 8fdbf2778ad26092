"""Which time a message gets in the bag."""

from __future__ import annotations

import time
from typing import Protocol


class Stamped(Protocol):
    stamp: int | None  # ns
    sent: int  # ns of wall time
    received: int  # ns of wall time


class TakeClock:
    """Log and publish times in ROS time.

    On a robot these are the wall times of receipt and sending. In simulation ROS time advances with the joint states,
    so a message counts as received at the newest of their stamps, which plays back at the simulated robot's pace.
    """

    def __init__(self, *, simulated: bool) -> None:
        self._simulated = simulated
        self._newest = 0

    def start(self) -> int:
        """Return the time (ns) at which a take begins."""
        return self._newest if self._simulated else time.time_ns()

    def times(self, message: Stamped, *, leads: bool) -> tuple[int, int]:
        """Return log and publish time (ns) of a message; `leads`: simulated time follows its topic."""
        if not self._simulated:
            return message.received, message.sent
        if message.stamp is None:
            return self._newest, self._newest
        if leads:
            self._newest = message.stamp
        return self._newest, message.stamp

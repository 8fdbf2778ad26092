"""What happened where one chunk took over from another, off lock-step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aloe_core.types import Chunk


@dataclass
class SpliceLog:
    """Of the newest chunk: age and delay on arrival, the jump where it takes over; and how many came too late."""

    age: float = 0.0  # s, from the observation to the finished chunk
    delay: int = 0  # control steps that were over by then
    frozen: int = 0  # leading rows that were copied from the chunk before
    jump: float | None = None  # largest difference to the chunk before, same instant, rad or m; None: it had run out
    missed: int = 0  # chunks that came after the steps meant for the one before them

    def see(self, chunk: Chunk, previous: Chunk | None, due: int, now: int) -> None:
        """Take a chunk that arrives at `now` (ns) to take over from `previous`, whose steps end at row `due`."""
        self.age, self.frozen, self.jump = (now - chunk.stamp) * 1e-9, chunk.frozen_steps, None
        self.delay = row = max(0, math.ceil(self.age / chunk.dt - 1e-6))
        if previous is None:
            return
        self.missed += self.delay > due
        other = row + previous.index_at(chunk.stamp)
        if row < len(chunk.actions) and 0 <= other < len(previous.actions):
            self.jump = float(np.abs(chunk.actions[row] - previous.actions[other]).max())

    def values(self) -> dict[str, object]:
        """Return what diagnostics say of it."""
        return {
            "age_ms": f"{self.age * 1e3:.1f}",
            "delay_steps": self.delay,
            "frozen_steps": self.frozen,
            "splice": "" if self.jump is None else f"{self.jump:.4f}",
            "missed_deadlines": self.missed,
        }

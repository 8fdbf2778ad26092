"""When the critic's opinion of what the policy is about to do calls for a person."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

NO_FLOOR = -10.0  # values are normalised returns, about [-2, 0]
_GAP = 5_000_000_000  # ns of ROS time without a chunk after which earlier values say nothing about the next


@dataclass(frozen=True)
class AlarmRule:
    """Pessimistic values of chunks that raise the alarm; off as it stands."""

    drop: float = 0.0  # a value this much below the best of the last `chunks`; 0: off
    floor: float = NO_FLOOR  # `chunks` values in a row below this; NO_FLOOR: off
    chunks: int = 5


class ValueAlarm:
    """Fed with the value of every chunk. It stays raised until as many chunks as it looks at gave no cause for it.

    Time is that of the observations, so a simulation in lock-step raises it at the same chunk every time.
    """

    def __init__(self, rule: AlarmRule) -> None:
        self.raised = ""  # why, one sentence; empty: not raised
        self._rule = rule
        self._recent: deque[float] = deque(maxlen=rule.chunks)
        self._seen_at = 0
        self._calm = 0  # chunks in a row without a cause, while it is raised

    def begin(self) -> None:
        """Forget everything: another episode, or somebody else drove meanwhile."""
        self._recent.clear()
        self.raised, self._calm = "", 0

    def see(self, stamp: int, value: float) -> bool:
        """Take the value of the chunk observed at `stamp` (ns); returns whether it raises the alarm."""
        if not 0 <= stamp - self._seen_at <= _GAP:
            self.begin()
        self._seen_at = stamp
        self._recent.append(value)
        cause = self._cause(value)
        self._calm = 0 if cause else self._calm + 1
        if cause and not self.raised:
            self.raised = cause
            return True
        if self._calm >= self._rule.chunks:
            self.raised = ""
        return False

    def _cause(self, value: float) -> str:
        rule = self._rule
        fall = max(self._recent) - value
        if 0 < rule.drop < fall:
            return f"The value of the policy's chunks fell by {fall:.2f} to {value:.2f} within {rule.chunks} chunks."
        low = len(self._recent) == rule.chunks and max(self._recent) < rule.floor
        if rule.floor > NO_FLOOR and low:
            return f"The value of the policy's last {rule.chunks} chunks was below {rule.floor:g}, now {value:.2f}."
        return ""

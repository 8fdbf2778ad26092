"""When has everything that belongs to an episode arrived?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QUIET_S = 0.3  # silence after which nothing more is expected, whatever is missing


@dataclass(frozen=True)
class Tail:
    """Newest stamps (ns, None for nothing yet) of a take that was asked to stop."""

    executed: int | None
    joints: int | None
    frames: Sequence[tuple[int | None, int]]  # per camera: newest stamp and period, ns
    driving: bool  # the arbiter's mode still is POLICY or HUMAN, or unknown
    quiet: float  # s of wall time since the last message

    def whole(self, label_stamp: int, dt: int) -> bool:
        """Return whether steps, the state after the last and its frames are here. `dt`: control period, ns.

        The arbiter leaves POLICY or HUMAN before a stop is asked for and says so after its last step, so once that
        has arrived no further step is on its way. `label_stamp` (ns, 0 = none) is the state that ends the episode.
        """
        if self.executed is None:
            return not self.driving or self.quiet >= QUIET_S
        if self.driving and self.quiet < QUIET_S:
            return False
        steps_here = self.executed >= label_stamp - 1.5 * dt
        last_needed = max(label_stamp, self.executed + dt // 2)
        if not steps_here or self.joints is None or self.joints < last_needed:
            return False
        return all(newest is None or self.joints - newest < period * 0.99 for newest, period in self.frames)

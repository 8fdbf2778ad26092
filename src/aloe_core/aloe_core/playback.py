"""Which row of which policy chunk runs now: fencing, late chunks, and the blend after a hand-back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.control import LateChunk
from aloe_core.motion import Clamp
from aloe_core.types import Chunk

_REMEMBERED = 64  # chunk ids; older ones are refused by their stamp


@dataclass(frozen=True)
class Row:
    """What the policy wants at a tick."""

    position: np.ndarray  # float64 [J]
    chunk: Chunk
    index: int
    late: bool  # past the steps the chunk was meant for


class Playback:
    """The chunks that may run. `fence` bars all known ones for good and all observed before its stamp."""

    def __init__(self, contract: RobotContract, *, lockstep: bool, late: LateChunk) -> None:
        self.fenced_at = 0  # ns; older observations never drive
        self.started = False  # a row has run since the fence
        self._lockstep = lockstep
        self.slows = late is LateChunk.SLOW and not lockstep
        self._longest = contract.staleness.chunk * 1e9  # ns
        self._chunks: deque[Chunk] = deque(maxlen=2)
        self._offered: dict[str, int] = {}  # chunk id -> stamp, oldest first
        self._barred: frozenset[str] = frozenset()

    def fence(self, stamp: int) -> None:
        """From now on only chunks that are new and observed at or after `stamp` (ns) run."""
        self._barred = frozenset(self._offered)
        self._chunks.clear()
        self.fenced_at, self.started = stamp, False

    def take(self, chunk: Chunk, wanted: bool = True) -> bool:
        """Return whether the chunk may run; never if not `wanted`, when the policy does not drive.

        One observed before the newest is ignored. One that comes again under another stamp is refused: it would pass
        for an observation that it was not made from.
        """
        known = self._offered.setdefault(chunk.chunk_id, chunk.stamp)
        if len(self._offered) > _REMEMBERED:
            del self._offered[next(iter(self._offered))]
        again = chunk.stamp != known
        if not wanted or chunk.stamp < self.fenced_at or again or chunk.chunk_id in self._barred:
            if not again:
                self._barred = (self._barred | {chunk.chunk_id}).intersection(self._offered)
            return False
        if not self._chunks or chunk.stamp >= self._chunks[-1].stamp:
            self._chunks.append(chunk)
        return True

    def row(self, stamp: int) -> Row | None:
        """Return the row meant for `stamp` (ns) of the newest chunk that has one, None if no chunk does.

        Lock-step runs `execute` rows and waits for the next chunk; a timer goes on to the last row.
        """
        for chunk in reversed(self._chunks):
            index = chunk.index_at(stamp)
            rows = chunk.execute if self._lockstep else len(chunk.actions)
            if not self._lockstep and stamp - chunk.stamp > self._longest:
                continue
            late = index >= chunk.execute
            if late and self.slows:
                return self._slowed(chunk, index - chunk.execute)
            if 0 <= index < rows:
                return Row(np.asarray(chunk.actions[index], dtype=np.float64), chunk, index, late)
        return None

    def _slowed(self, chunk: Chunk, late: int) -> Row:
        """Play the rows after `execute` ever slower: they last until the chunk is too old, and nothing jumps."""
        left = len(chunk.actions) - chunk.execute
        at = chunk.execute - 1 + left * -np.expm1(-(late + 1) / left) if left else float(len(chunk.actions) - 1)
        index = min(int(at), len(chunk.actions) - 1)
        one, other = np.asarray(chunk.actions[[index, min(index + 1, len(chunk.actions) - 1)]], dtype=np.float64)
        return Row(one + (at - index) * (other - one), chunk, index, True)


class Blend:
    """Leads from the command held at a hand-back to what the policy wants, over `control.blend` s of policy ticks."""

    def __init__(self, contract: RobotContract) -> None:
        self._ticks = round(contract.control.blend / contract.dt)
        self._left = 0
        self._from: np.ndarray | None = None

    def begin(self) -> None:
        """The next policy tick starts from the command of that time."""
        self._left, self._from = self._ticks, None

    def end(self) -> None:
        """Nothing is to be blended: something else has moved the robot to where the policy begins."""
        self._left = 0

    def apply(self, wanted: np.ndarray, command: np.ndarray) -> tuple[np.ndarray, Clamp]:
        """Return what to ask for at this tick, [J], given the policy's `wanted` [J] and the `command` so far [J]."""
        if not self._left:
            return wanted, Clamp.NONE
        if self._from is None:
            self._from = command
        done = 1.0 - self._left / (self._ticks + 1)
        self._left -= 1
        weight = done * done * (3.0 - 2.0 * done)  # no jump of speed at either end
        return self._from + weight * (wanted - self._from), Clamp.BLENDED

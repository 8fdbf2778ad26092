"""What everybody who drives wants at a tick, put together joint group by joint group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.control import LateChunk, Teleop
from aloe_core.episode.data import Source
from aloe_core.motion import Clamp
from aloe_core.playback import Blend, Playback, Row

Sources = tuple[Source, ...]  # of each joint group, in the order of RobotContract.groups


@dataclass(frozen=True)
class Wanted:
    """The request of a tick."""

    requested: np.ndarray  # float64 [J], what the drivers asked for
    target: np.ndarray  # float64 [J], what goes to the safety filter: blended after a hand-back
    held: np.ndarray  # bool [J], joints that nobody drives now
    sources: Sources
    row: Row | None
    clamp: Clamp


class Mux:
    """A person's commands and the policy's chunks into one request."""

    def __init__(self, contract: RobotContract, *, lockstep: bool, late: LateChunk) -> None:
        self.playback = Playback(contract, lockstep=lockstep, late=late)
        self.blend = Blend(contract)
        self._lockstep = lockstep
        self._group_of = contract.group_of

    def groups_of(self, teleop: Teleop) -> tuple[bool, ...]:
        """Return for each joint group whether the person who sends `teleop` holds it."""
        groups = np.zeros(self._group_of.max() + 1, dtype=bool)
        groups[self._group_of[teleop.joints] if len(teleop.joints) else slice(None)] = True
        return tuple(groups.tolist())

    def wanted(self, stamp: int, sources: Sources, teleop: Teleop, command: np.ndarray) -> Wanted | None:
        """Return the request for `stamp` (ns) with `sources` driving from `command` [J]; None if nothing drives.

        Lock-step returns None until everything that drives has come; a timer holds the groups whose driver is late.
        """
        clamp = Clamp.NONE
        if Source.HUMAN in sources and self._lockstep and teleop.stamp < stamp:
            return None
        row = self.playback.row(stamp) if Source.POLICY in sources else None
        if Source.POLICY in sources and row is None:
            if self._lockstep:
                return None
            sources = tuple(Source.HOLD if source is Source.POLICY else source for source in sources)
            clamp |= Clamp.STALE
        if all(source is Source.HOLD for source in sources):
            return None
        by = np.array(sources, dtype=np.intp)[self._group_of]
        requested, target = command.copy(), command.copy()
        if row is not None:
            self.playback.started = True
            policy = by == Source.POLICY
            blended, blending = self.blend.apply(row.position, command)
            requested[policy], target[policy] = row.position[policy], blended[policy]
            clamp |= blending | (Clamp.SLOWED if row.late and self.playback.slows else Clamp.NONE)
        if Source.HUMAN in sources:
            requested[teleop.joints] = target[teleop.joints] = teleop.positions
        return Wanted(requested, target, by == Source.HOLD, sources, row, clamp)

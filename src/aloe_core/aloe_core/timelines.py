"""Random timelines for the arbiter: robot, policy, person and buttons do whatever they like, for soak tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from aloe_core.arbiter import Arbiter
from aloe_core.contract import RobotContract
from aloe_core.control import (
    AskMode,
    EstopButton,
    Event,
    LateChunk,
    Mode,
    ResetEstop,
    RobotState,
    TaskInfo,
    Teleop,
    Tick,
)
from aloe_core.rules import Rules
from aloe_core.types import Chunk

_MODES = tuple(Mode)
_LATE = tuple(LateChunk)
_SUPERVISION = ("supervise", "watch", "demonstrate")


@dataclass
class Tally:
    """What timelines came to."""

    timelines: int = 0
    ticks: int = 0
    changes: int = 0
    jump: float = 0.0  # rad (or m), largest change of a commanded position in one tick
    violations: Counter[str] = field(default_factory=Counter)
    seeds: list[int] = field(default_factory=list)  # of timelines with a violation


def play(contract: RobotContract, seed: int, ticks: int, tally: Tally) -> None:
    """Run the timeline that `seed` names for `ticks` control ticks; the same seed gives the same one."""
    rng = np.random.default_rng(seed)
    lockstep, late = bool(rng.random() < 0.3), _LATE[rng.integers(len(_LATE))]
    arbiter = Arbiter(contract, lockstep=lockstep, late_chunk=late)
    rules = Rules(contract, lockstep=lockstep)
    world = _World(contract, rng)
    found = 0
    for event in world.events(ticks):
        decision = arbiter.update(world.now, event)
        for violation in rules.check(world.now, event, decision, arbiter.mode):
            tally.violations[violation] += 1
            found += 1
        tally.changes += decision.change is not None
        if decision.step is not None:
            tally.ticks += 1
            world.command = decision.step.executed
    tally.timelines += 1
    tally.jump = max(tally.jump, rules.jump)
    if found:
        tally.seeds.append(seed)


class _World:
    """Events around an arbiter, and the robot that follows it."""

    def __init__(self, contract: RobotContract, rng: np.random.Generator) -> None:
        self.now = int(rng.integers(10**9))  # monotonic ns
        self.command = (contract.lower + contract.upper) / 2
        self._contract = contract
        self._rng = rng
        self._dt = round(contract.dt * 1e9)
        self._stamp = 10**10
        self._sent: list[Chunk] = []
        self._number = 0
        self._engaged = np.zeros(len(contract.groups), dtype=bool)
        self._silent = 0
        self._estop = self._other = False

    def events(self, ticks: int) -> Iterator[Event]:
        for _ in range(ticks):
            yield from self._robot()
            yield from self._person()
            yield from self._policy()
            yield from self._operator()
            yield Tick()

    def _chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)

    def _robot(self) -> Iterator[Event]:
        late = self._rng.integers(20 * self._dt) if self._chance(0.02) else self._rng.integers(self._dt // 4)
        self.now += self._dt + int(late) - self._dt // 8
        self._stamp += self._dt
        if self._chance(0.003):  # a clock that restarts
            self._stamp = int(self._rng.integers(self._stamp))
        if self._chance(0.04):
            return  # lost
        measured = self.command + self._rng.normal(0, 0.003, len(self.command))
        if self._chance(0.003):
            measured[self._rng.integers(len(measured))] = np.nan
        yield RobotState(self._stamp, measured)
        if self._chance(0.02):  # one that was overtaken
            yield RobotState(self._stamp - int(self._rng.integers(1, 4)) * self._dt, measured)

    def _person(self) -> Iterator[Event]:
        if self._chance(0.04):
            self._engaged = self._rng.random(len(self._engaged)) < 0.5
            if not self._engaged.any():
                yield Teleop(self._stamp, False)
        if self._chance(0.01):
            self._silent = 10  # ticks, longer than is allowed
        self._silent = max(self._silent - 1, 0)
        if not self._engaged.any() or self._silent or self._chance(0.05):
            return
        joints = np.flatnonzero(self._engaged[self._contract.group_of])
        positions = self.command[joints] + self._rng.normal(0, 0.5 if self._chance(0.1) else 0.02, len(joints))
        if self._chance(0.01):
            positions[0] = (np.nan, np.inf, -np.inf)[self._rng.integers(3)]
        yield Teleop(self._stamp, True, joints, positions)

    def _policy(self) -> Iterator[Event]:
        if self._sent and self._chance(0.03):  # an old one again, under its own stamp or a new one
            old = self._sent[self._rng.integers(len(self._sent))]
            stamp = old.stamp if self._chance(0.5) else self._stamp
            yield Chunk(old.chunk_id, stamp, old.dt, old.actions, old.execute, old.policy_version)
        if not self._chance(0.15):
            return
        contract = self._contract
        self._number += 1
        walk = self._rng.normal(0, 0.3 if self._chance(0.1) else 0.02, (contract.chunk.horizon, len(self.command)))
        actions = (self.command + np.cumsum(walk, axis=0)).astype(np.float32)
        if self._chance(0.01):
            actions[self._rng.integers(len(actions))] = np.nan
        stamp = self._stamp - int(self._rng.integers(-1, 12)) * self._dt
        chunk = Chunk(str(self._number), stamp, contract.dt, actions, contract.chunk.execute, "v")
        self._sent = [*self._sent[-15:], chunk]
        yield chunk

    def _operator(self) -> Iterator[Event]:
        if self._chance(0.015 if not self._estop else 0.2):
            self._estop = not self._estop
            yield EstopButton(self._estop, self._other)
        if self._chance(0.03):
            self._other = not self._other
            yield EstopButton(self._estop, self._other)
        if self._chance(0.06):
            yield ResetEstop()
        if self._chance(0.08):
            yield AskMode(Mode.POLICY, "go")
        if self._chance(0.02):
            yield AskMode(_MODES[self._rng.integers(len(_MODES))], "asked")
        if self._chance(0.01):
            yield TaskInfo(str(self._rng.integers(3) or ""), _SUPERVISION[self._rng.integers(3)])

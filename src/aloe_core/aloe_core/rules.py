"""What must hold of every decision of the arbiter, judged from outside: by events, decisions and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.control import (
    TRANSITIONS,
    AskMode,
    Change,
    Decision,
    EstopButton,
    Event,
    Mode,
    ResetEstop,
    RobotState,
    Step,
    Teleop,
    Tick,
)
from aloe_core.episode.data import Source
from aloe_core.types import Chunk

_ROUNDING = 1e-9  # rad or m


class Rules:
    """Feed it each event with the decision that followed; `check` yields one sentence per violation."""

    def __init__(self, contract: RobotContract, *, lockstep: bool, start: Mode = Mode.HOLD) -> None:
        self.jump = 0.0  # rad (or m), largest change of a commanded position in one tick
        self._contract = contract
        self._lockstep = lockstep
        self._mode = start
        first = Source.RESET if start is Mode.RESET else Source.HOLD
        self._sources: tuple[Source, ...] = (first,) * len(contract.groups)
        self._sequence = 0
        self._estop = EstopButton(False)
        self._teleop = Teleop(0, False)
        self._teleop_received = 0
        self._state: RobotState | None = None
        self._received = 0
        self._unanswered = 0
        self._fence = 0
        self._chunks: dict[str, Chunk] = {}  # offered since the fence
        self._barred: set[str] = set()
        self._command: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def check(self, now: int, event: Event | None, decision: Decision, mode: Mode) -> Iterator[str]:
        """Yield what is wrong; `mode` is that of the arbiter after `event` at `now` (monotonic ns)."""
        before = self._mode
        self._see(now, event)
        if decision.change is not None:
            yield from self._check_change(decision.change, before)
        elif mode is not before:
            yield f"{before.name} became {mode.name} without a change"
        self._mode = mode
        yield from self._check_estop(event, before, mode)
        if decision.step is not None:
            yield from self._check_step(now, event, decision.step)

    def _see(self, now: int, event: Event | None) -> None:
        match event:
            case RobotState() if np.isfinite(event.position).all():
                self._see_state(now, event)
            case Teleop():
                self._teleop, self._teleop_received = event, now
            case Chunk():
                self._chunks.setdefault(event.chunk_id, event)

    def _see_state(self, now: int, state: RobotState) -> None:
        if self._state is not None and state.stamp < self._state.stamp:
            overtaken = (self._state.stamp - state.stamp) * 1e-9 <= self._contract.staleness.joint_states
            if overtaken and not self._lockstep:
                return
            self._bar(state.stamp)
            if self._lockstep:  # the simulator put the robot elsewhere
                self._command = self._speed = None
        self._state, self._received = state, now
        self._unanswered = 1

    def _bar(self, fence: int) -> None:
        self._fence = fence
        self._barred.update(self._chunks)
        self._chunks.clear()

    def _check_change(self, change: Change, before: Mode) -> Iterator[str]:
        self._sequence += 1
        if change.previous is not before or change.sequence != self._sequence or not change.cause:
            yield f"change {change.sequence} from {change.previous.name} for {change.cause!r} in {before.name}"
        if change.mode not in {to for (mode, _), to in TRANSITIONS.items() if mode is before}:
            yield f"{before.name} became {change.mode.name}, which the table does not have"
        if self._state is not None and change.stamp < self._state.stamp:
            yield "the fence lies before the newest joint state"
        if change.mode is Mode.HUMAN and not self._teleop.engaged:
            yield "HUMAN without a dead-man"
        self._bar(change.stamp)
        self._sources = change.group_source
        if Mode.RESET in (before, change.mode):
            self._command = self._speed = None

    def _check_estop(self, event: Event | None, before: Mode, mode: Mode) -> Iterator[str]:
        asked = isinstance(event, AskMode) and event.mode is Mode.ESTOP
        if isinstance(event, EstopButton):
            asked, self._estop = event.held and not self._estop.held, event
        if asked and mode is not Mode.ESTOP:
            yield "an e-stop did not stop"
        if before is Mode.ESTOP and mode is not Mode.ESTOP:
            held = self._estop.held or self._estop.others_held or self._teleop.engaged
            if not isinstance(event, ResetEstop) or held:
                yield "the e-stop was left without a reset, or with a button held"

    def _check_step(self, now: int, event: Event | None, step: Step) -> Iterator[str]:
        if self._mode is Mode.RESET or self._state is None or step.stamp != self._state.stamp:
            yield "a command without a joint state to answer"
        if self._lockstep and not self._unanswered:
            yield "a joint state was answered twice"
        if not self._lockstep and not isinstance(event, Tick):
            yield "a command between ticks"
        self._unanswered = 0
        for source, allowed in zip(step.group_source, self._sources, strict=True):
            if source not in (allowed, Source.HOLD):
                yield f"{source.name} drives where {allowed.name} may"
        if step.source is not max(step.group_source):
            yield "the source of the step is not that of its groups"
        if Source.HUMAN in step.group_source:
            yield from self._check_person(now)
        if Source.POLICY in step.group_source:
            yield from self._check_policy(now, step)
        yield from self._check_motion(step.executed)

    def _check_person(self, now: int) -> Iterator[str]:
        if self._mode is not Mode.HUMAN or not self._teleop.engaged:
            yield "a person's command without a dead-man"
        if not self._lockstep and now - self._teleop_received > self._contract.staleness.teleop * 1e9:
            yield "a person's command that is too old"

    def _check_policy(self, now: int, step: Step) -> Iterator[str]:
        chunk = self._chunks.get(step.chunk_id)
        if chunk is None or step.chunk_id in self._barred:
            yield f"a row of chunk {step.chunk_id!r}, which is fenced"
        elif chunk.stamp < self._fence:
            yield f"a row of chunk {step.chunk_id!r}, observed before the last mode change"
        elif not 0 <= step.chunk_index < (chunk.execute if self._lockstep else len(chunk.actions)):
            yield f"row {step.chunk_index} of chunk {step.chunk_id!r}"
        elif not self._lockstep:
            age = now - self._received
            limits = self._contract.staleness
            if age > limits.joint_states * 1e9 or step.stamp + age - chunk.stamp > limits.chunk * 1e9:
                yield "a row from an observation that is too old, or for a robot that is silent"

    def _check_motion(self, command: np.ndarray) -> Iterator[str]:
        contract = self._contract
        if not np.isfinite(command).all():
            yield "a command that is not finite"
            return
        previous, self._command = self._command, command
        if previous is None:
            return
        moved = np.abs(command - previous)
        self.jump = max(self.jump, float(moved.max()))
        if (moved > contract.velocity * contract.dt + _ROUNDING).any():
            yield "a command faster than the velocity limit"
        low, high = np.minimum(contract.lower, previous), np.maximum(contract.upper, previous)
        if (command < low - _ROUNDING).any() or (command > high + _ROUNDING).any():
            yield "a command beyond the position limits"
        speed, self._speed = self._speed, command - previous
        gain = contract.acceleration * contract.dt**2 + 4 * _ROUNDING
        if speed is not None and (np.abs(command - previous - speed) > gain).any():
            yield "a command beyond the acceleration limit"

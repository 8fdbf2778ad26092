"""Who drives the robot, and what it does this tick: pure decisions over events and injected time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.control import (
    ASKED,
    TRANSITIONS,
    AskMode,
    Change,
    Counts,
    Decision,
    EstopButton,
    Event,
    Mode,
    ResetEstop,
    RobotState,
    Step,
    TaskInfo,
    Teleop,
    Tick,
    Trigger,
)
from aloe_core.episode.data import Source
from aloe_core.safety import Clamp, Motion, SafetyFilter
from aloe_core.types import Chunk


@dataclass(frozen=True)
class _Wanted:
    position: np.ndarray
    source: Source
    chunk: Chunk | None = None
    row: int = -1


class Arbiter:
    """Feed every event through `update`; the same events at the same times give the same decisions.

    `now` is a monotonic clock in ns for watchdogs only; which row runs follows from the stamps of joint states.
    Lock-step: every joint state is answered once, when its input is there.
    Timer: every Tick is answered from the newest joint state; whatever is missing or too old is a hold.
    RESET answers nothing in both: something else moves the robot.
    HOLD keeps the last commanded position, so a grip stays closed; ESTOP keeps the measured one, so nothing pushes on.
    """

    def __init__(
        self,
        contract: RobotContract,
        *,
        lockstep: bool,
        start: Mode = Mode.HOLD,
        lockstep_timeout: float = 5.0,
    ) -> None:
        self.mode = start
        self.counts = Counts()
        self._contract = contract
        self._lockstep = lockstep
        self._timeout = round(lockstep_timeout * 1e9)
        self._safety = SafetyFilter(contract)
        self._now = 0
        self._sequence = 0
        self._motion: Motion | None = None  # None: take the measured position as the command so far
        self._held: np.ndarray | None = None  # what ESTOP holds
        self._state: RobotState | None = None
        self._received = 0  # when the newest joint state came
        self._pending = False  # lock-step: the newest joint state is not answered yet
        self._chunks: deque[Chunk] = deque(maxlen=2)
        self._fence = 0  # ns; older observations never drive
        self._teleop = Teleop(0, False)
        self._teleop_received = 0
        self._estop_held = False
        self._task = TaskInfo("", "")
        self._tick = 0
        self._back = Mode.HOLD  # mode before the takeover

    @property
    def waiting_since(self) -> int | None:
        """When (monotonic ns) the joint state that lock-step still has to answer came; None if there is none."""
        return self._received if self._pending and self.mode is not Mode.RESET else None

    @property
    def sequence(self) -> int:
        """Mode changes since the start."""
        return self._sequence

    def update(self, now: int, event: Event | None = None) -> Decision:
        """Return what follows from `event` at `now`; without an event only the time-outs are looked at."""
        self._now = now
        change: Change | None = None
        refusal = ""
        match event:
            case RobotState():
                self._take_state(event)
            case Chunk():
                self._take_chunk(event)
            case Teleop():
                change = self._take_teleop(event)
            case EstopButton():
                pressed = event.held and not self._estop_held
                self._estop_held = event.held
                change = self._change(Trigger.ESTOP, "e-stop button pressed") if pressed else None
            case AskMode():
                change, refusal = self._ask(event)
            case ResetEstop():
                change, refusal = self._reset_estop()
            case TaskInfo():
                if event.episode_id != self._task.episode_id:
                    self._tick = 0
                self._task = event
        if self._lockstep:
            return Decision(change, self._answer_pending(), refusal)
        if isinstance(event, Tick):
            change = self._watch_teleop()
            return Decision(change, self._answer_tick())
        return Decision(change, None, refusal)

    def _take_state(self, state: RobotState) -> None:
        if not np.isfinite(state.position).all():
            self.counts.nonfinite += 1
            return
        if self._state is not None and state.stamp < self._state.stamp:  # the clock was restarted
            self._chunks.clear()
            self._fence, self._motion = state.stamp, None
        self._state, self._received, self._pending = state, self._now, True

    def _take_chunk(self, chunk: Chunk) -> None:
        if self.mode is not Mode.POLICY or chunk.stamp < self._fence:
            self.counts.fenced += 1
        elif not self._chunks or chunk.stamp >= self._chunks[-1].stamp:
            self._chunks.append(chunk)

    def _take_teleop(self, teleop: Teleop) -> Change | None:
        pressed = teleop.engaged and not self._teleop.engaged
        self._teleop, self._teleop_received = teleop, self._now
        if pressed and (self.mode, Trigger.PRESS) in TRANSITIONS:
            self._back = self.mode
            return self._change(Trigger.PRESS, "takeover pressed")
        if not teleop.engaged and self.mode is Mode.HUMAN:
            supervised = self._task.episode_id != "" and self._task.supervision != "demonstrate"
            resumes = supervised or (self._back is Mode.POLICY and self._task.supervision != "demonstrate")
            return self._change(Trigger.HAND_BACK if resumes else Trigger.RELEASE, "takeover released")
        return None

    def _ask(self, asked: AskMode) -> tuple[Change | None, str]:
        if asked.mode is Mode.ESTOP:
            return self._change(Trigger.ESTOP, asked.cause or "e-stop requested"), ""
        if asked.mode is self.mode:
            return None, ""
        trigger = ASKED.get(asked.mode)
        if trigger is None:
            return None, "HUMAN cannot be requested: press the dead-man to take over."
        if (self.mode, trigger) in TRANSITIONS:
            return self._change(trigger, asked.cause or f"{asked.mode.name} requested"), ""
        if self.mode is Mode.ESTOP:
            return (
                None,
                f"{asked.mode.name} refused: the e-stop is latched, reset it first.",
            )
        return (
            None,
            f"{asked.mode.name} refused: a person is driving, release the dead-man first.",
        )

    def _reset_estop(self) -> tuple[Change | None, str]:
        if self.mode is not Mode.ESTOP:
            return None, "No e-stop is latched."
        if self._estop_held:
            return None, "E-stop reset refused: the e-stop button is still held."
        if self._teleop.engaged:
            return None, "E-stop reset refused: the dead-man is still held."
        return self._change(Trigger.ESTOP_RESET, "e-stop reset"), ""

    def _watch_teleop(self) -> Change | None:
        limit = self._contract.staleness.teleop * 1e9
        if self.mode is Mode.HUMAN and self._now - self._teleop_received > limit:
            # `_teleop` stays engaged: commands that come back do not drive before a release and a new press.
            return self._change(Trigger.TELEOP_LOST, "teleop commands stopped")
        return None

    def _change(self, trigger: Trigger, cause: str) -> Change | None:
        mode = TRANSITIONS.get((self.mode, trigger))
        if mode is None:
            return None
        previous, self.mode = self.mode, mode
        self._sequence += 1
        self._fence = self._newest_stamp()
        self._chunks.clear()
        if Mode.RESET in (mode, previous):
            self._motion = None  # something else moved the robot
        if mode is Mode.ESTOP:
            self._held = self._state.position if self._state is not None else None
        return Change(mode, previous, cause, self._fence, self._sequence)

    def _newest_stamp(self) -> int:
        """Return the stamp (ns) of the oldest observation that has seen everything executed so far."""
        if self._state is None:
            return 0
        return self._state.stamp if self._pending else self._state.stamp + 1

    def _answer_pending(self) -> Step | None:
        if not self._pending or self._state is None or self.mode is Mode.RESET:
            return None
        wanted = self._wanted(self._state.stamp)
        if wanted is not None:
            return self._step(wanted, Clamp.NONE)
        if self.mode in (Mode.POLICY, Mode.HUMAN):
            if self._now - self._received < self._timeout:
                return None
            self.counts.timeouts += 1
            return self._step(None, Clamp.STALE)
        return self._step(None, Clamp.NONE)

    def _answer_tick(self) -> Step | None:
        if self._state is None or self.mode is Mode.RESET:
            return None
        age = self._now - self._received
        fresh = age <= self._contract.staleness.joint_states * 1e9
        wanted = self._wanted(self._state.stamp + age) if fresh else None
        missing = wanted is None and self.mode in (Mode.POLICY, Mode.HUMAN)
        return self._step(wanted, Clamp.STALE if missing else Clamp.NONE)

    def _wanted(self, stamp: int) -> _Wanted | None:
        """Return what the driver of the present mode wants at `stamp` (ns), None if it has not said."""
        if self.mode is Mode.POLICY:
            return self._wanted_by_policy(stamp)
        if self.mode is Mode.HUMAN and (self._teleop.stamp >= stamp or not self._lockstep):
            position = self._motion_so_far().position.copy()
            position[self._teleop.joints] = self._teleop.positions
            return _Wanted(position, Source.HUMAN)
        return None

    def _wanted_by_policy(self, stamp: int) -> _Wanted | None:
        for chunk in reversed(self._chunks):
            row = chunk.index_at(stamp)
            rows = chunk.execute if self._lockstep else len(chunk.actions)
            if not self._lockstep and stamp - chunk.stamp > self._contract.staleness.chunk * 1e9:
                continue
            if 0 <= row < rows:
                return _Wanted(
                    np.asarray(chunk.actions[row], dtype=np.float64),
                    Source.POLICY,
                    chunk,
                    row,
                )
        return None

    def _motion_so_far(self) -> Motion:
        if self._motion is None:
            assert self._state is not None
            self._motion = self._safety.rest(self._state.position)
        return self._motion

    def _step(self, wanted: _Wanted | None, clamp: Clamp) -> Step:
        """Answer the newest joint state with `wanted`, or hold."""
        assert self._state is not None
        last = self._motion_so_far()
        if wanted is not None:
            self._motion, clamped = self._safety.apply(wanted.position, last)
        elif self.mode is Mode.ESTOP and self._held is not None:
            self._motion, clamped = self._safety.apply(self._held, last)
        else:
            self._motion, clamped = self._safety.stop(last)
        self.counts.stale += bool(clamp & Clamp.STALE)
        self.counts.nonfinite += bool(clamped & Clamp.NONFINITE)
        chunk = wanted.chunk if wanted is not None else None
        step = Step(
            stamp=self._state.stamp,
            tick=self._tick,
            episode_id=self._task.episode_id,
            requested=wanted.position if wanted is not None else None,
            executed=self._motion.position,
            source=wanted.source if wanted is not None else Source.HOLD,
            clamp=clamp | clamped,
            chunk_id=chunk.chunk_id if chunk is not None else "",
            chunk_index=wanted.row if wanted is not None else -1,
            policy_version=chunk.policy_version if chunk is not None else "",
        )
        self._tick += 1
        self._pending = False
        return step

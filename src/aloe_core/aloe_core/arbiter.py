"""Who drives the robot, and what it does this tick: pure decisions over events and injected time."""

from __future__ import annotations

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
    LateChunk,
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
from aloe_core.kinematics import RobotModel
from aloe_core.motion import Clamp, Motion
from aloe_core.mux import Mux, Sources, Wanted
from aloe_core.safety import SafetyFilter
from aloe_core.types import Chunk

_ALONE = {Mode.POLICY: Source.POLICY, Mode.RESET: Source.RESET}  # who drives all groups in these modes


class Arbiter:
    """Feed every event through `update`; the same events at the same times give the same decisions.

    `now` is a monotonic clock in ns for watchdogs only; which row runs follows from the stamps of joint states.
    Lock-step: every joint state is answered once, when its input is there.
    Timer: every Tick is answered from the newest joint state; whatever is missing or too old is a hold.
    RESET answers nothing in both: something else moves the robot.
    HOLD keeps the last commanded position, so a grip stays closed; ESTOP keeps the measured one, so nothing pushes on,
    and so does the HOLD after a late chunk under LateChunk.STOP.
    A person may hold some joint groups only; the policy keeps the others if it drove when the person took over.
    """

    def __init__(
        self,
        contract: RobotContract,
        *,
        lockstep: bool,
        start: Mode = Mode.HOLD,
        lockstep_timeout: float = 20.0,
        late_chunk: LateChunk = LateChunk.HOLD,
        model: RobotModel | None = None,
    ) -> None:
        """`model` is for the safety filter: workspace and arm distance are not watched without it."""
        self.mode = start
        self.counts = Counts()
        self._contract = contract
        self._lockstep = lockstep
        self._timeout = round(lockstep_timeout * 1e9)
        self._late_chunk = late_chunk
        self._safety = SafetyFilter(contract, model)
        self._mux = Mux(contract, lockstep=lockstep, late=late_chunk)
        self._now = 0
        self._changed = 0  # when the mode changed last
        self._sequence = 0
        self._motion: Motion | None = None  # None: take the measured position as the command so far
        self._held: np.ndarray | None = None  # measured position that a stop holds; None: the last command
        self._state: RobotState | None = None
        self._received = 0  # when the newest joint state came
        self._pending = False  # lock-step: the newest joint state is not answered yet
        self._teleop = Teleop(0, False)
        self._teleop_received = 0
        self._human = (False,) * len(contract.groups)  # groups that the person holds, in HUMAN
        self._rest = Source.HOLD  # who drives the others then
        self._estop = EstopButton(False)
        self._task = TaskInfo("", "")
        self._tick = 0
        self._back = Mode.HOLD  # mode before the takeover
        self._stopped = False  # by a late chunk; the policy drives again only on request
        self._late_id = ""  # the chunk that was counted as late

    @property
    def sequence(self) -> int:
        """Mode changes since the start."""
        return self._sequence

    @property
    def group_source(self) -> Sources:
        """Who drives each joint group of the contract in the present mode."""
        if self.mode is not Mode.HUMAN:
            return (_ALONE.get(self.mode, Source.HOLD),) * len(self._human)
        return tuple(Source.HUMAN if held else self._rest for held in self._human)

    def update(self, now: int, event: Event | None = None) -> Decision:
        """Return what follows from `event` at `now`; without an event only the time-outs are looked at."""
        self._now = now
        change: Change | None = None
        refusal = ""
        match event:
            case RobotState():
                self._take_state(event)
            case Chunk():
                taken = self._mux.playback.take(event, wanted=Source.POLICY in self.group_source)
                self.counts.fenced += not taken
            case Teleop():
                change = self._take_teleop(event)
            case EstopButton():
                pressed = event.held and not self._estop.held
                self._estop = event
                change = self._change(Trigger.ESTOP, "e-stop button pressed") if pressed else None
            case AskMode():
                change, refusal = self._ask(event)
            case ResetEstop():
                change, refusal = self._reset_estop()
            case TaskInfo():
                if event.episode_id != self._task.episode_id:
                    self._tick = 0
                self._task = event
            case Tick():
                change = self._watch_teleop()
        if self._lockstep:
            change = change or self._watch_lockstep()
            return Decision(change, self._answer_pending(), refusal)
        if isinstance(event, Tick):
            change = change or self._watch_policy()
            return Decision(change, self._answer_tick())
        return Decision(change, None, refusal)

    # Inputs -------------------------------------------------------------------------------------------------------

    def _take_state(self, state: RobotState) -> None:
        if not np.isfinite(state.position).all():
            self.counts.nonfinite += 1
            return
        if self._state is not None and state.stamp < self._state.stamp and not self._restarted(state):
            self.counts.old_states += 1
            return
        self._state, self._received, self._pending = state, self._now, True

    def _restarted(self, state: RobotState) -> bool:
        """Return whether a stamp from the past means a restarted clock, not a message that was overtaken."""
        assert self._state is not None
        overtaken = (self._state.stamp - state.stamp) * 1e-9 <= self._contract.staleness.joint_states
        if overtaken and not self._lockstep:
            return False
        self._mux.playback.fence(state.stamp)
        if self._lockstep:
            self._motion = None  # the simulator moved the robot; a real one stands where its command is
        return True

    def _take_teleop(self, teleop: Teleop) -> Change | None:
        pressed = teleop.engaged and not self._teleop.engaged
        self._teleop, self._teleop_received = teleop, self._now
        if not teleop.engaged:
            if self.mode is not Mode.HUMAN:
                return None
            supervised = self._task.episode_id != "" and self._task.supervision != "demonstrate"
            resumes = supervised or (self._back is Mode.POLICY and self._task.supervision != "demonstrate")
            trigger = Trigger.HAND_BACK if resumes and not self._stopped else Trigger.RELEASE
            return self._change(trigger, "takeover released")
        groups = self._mux.groups_of(teleop)
        if pressed and (self.mode, Trigger.PRESS) in TRANSITIONS:
            self._back, self._human = self.mode, groups
            keeps = self.mode is Mode.POLICY and self._task.supervision != "demonstrate"
            self._rest = Source.POLICY if keeps else Source.HOLD
            return self._change(
                Trigger.PRESS, "takeover pressed" + ("" if all(groups) else f" ({self._named(groups)})")
            )
        if self.mode is Mode.HUMAN and groups != self._human:
            self._human = groups
            return self._change(Trigger.REGROUP, f"takeover is now of {self._named(groups)}")
        return None

    def _named(self, groups: tuple[bool, ...]) -> str:
        return ", ".join(name for name, held in zip(self._contract.groups, groups, strict=True) if held)

    def _ask(self, asked: AskMode) -> tuple[Change | None, str]:
        if asked.mode is Mode.ESTOP:
            return self._change(Trigger.ESTOP, asked.cause or "e-stop requested"), ""
        if asked.mode is self.mode or asked.only_in not in (None, self.mode):
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
        if self._estop.held:
            return None, "E-stop reset refused: the e-stop button is still held."
        if self._teleop.engaged or self._estop.others_held:
            return None, "E-stop reset refused: the dead-man is still held."
        return self._change(Trigger.ESTOP_RESET, "e-stop reset"), ""

    # Watchdogs ----------------------------------------------------------------------------------------------------

    def _watch_teleop(self) -> Change | None:
        limit = self._contract.staleness.teleop * 1e9
        if not self._lockstep and self.mode is Mode.HUMAN and self._now - self._teleop_received > limit:
            # `_teleop` stays engaged: commands that come back do not drive before a release and a new press.
            return self._change(Trigger.TELEOP_LOST, "teleop commands stopped")
        return None

    def _watch_policy(self) -> Change | None:
        """Under LateChunk.STOP: a chunk that ran out, or a first one that does not come, stops the policy."""
        if self._late_chunk is not LateChunk.STOP or Source.POLICY not in self.group_source or not self._state_is_fresh:
            return None
        assert self._state is not None
        waited = self._mux.playback.started or self._now - self._changed > self._contract.staleness.chunk * 1e9
        if not waited or self._mux.playback.row(self._state.stamp + self._now - self._received) is not None:
            return None
        return self._change(Trigger.DEADLINE, "the policy's next chunk is late")

    def _watch_lockstep(self) -> Change | None:
        """As `_watch_policy`, after the time-out of lock-step."""
        if self._late_chunk is not LateChunk.STOP or Source.POLICY not in self.group_source:
            return None
        if not self._pending or self._state is None or self._now - self._received < self._timeout:
            return None
        if self._mux.playback.row(self._state.stamp) is not None:
            return None
        self.counts.timeouts += 1
        return self._change(Trigger.DEADLINE, "the policy's next chunk is late")

    @property
    def _state_is_fresh(self) -> bool:
        age = self._now - self._received
        return self._state is not None and age <= self._contract.staleness.joint_states * 1e9

    # Modes --------------------------------------------------------------------------------------------------------

    def _change(self, trigger: Trigger, cause: str) -> Change | None:
        mode = TRANSITIONS.get((self.mode, trigger))
        if mode is None:
            return None
        previous, self.mode = self.mode, mode
        self._sequence += 1
        self._changed = self._now
        if trigger is Trigger.DEADLINE:
            self._rest = Source.HOLD
        self._stopped = trigger is Trigger.DEADLINE or (self._stopped and trigger not in ASKED.values())
        fence = self._newest_stamp()
        self._mux.playback.fence(fence)
        if Mode.RESET in (mode, previous):
            self._motion = None  # something else moved the robot
            self._mux.blend.end()
        else:
            self._mux.blend.begin()
        measured = self._state.position if self._state is not None else None
        self._held = measured if mode is Mode.ESTOP or trigger is Trigger.DEADLINE else None
        return Change(mode, previous, cause, fence, self._sequence, self.group_source)

    def _newest_stamp(self) -> int:
        """Return the stamp (ns) of the oldest observation that has seen everything executed so far."""
        if self._state is None:
            return 0
        return self._state.stamp if self._pending else self._state.stamp + 1

    # Answers ------------------------------------------------------------------------------------------------------

    def _answer_pending(self) -> Step | None:
        if not self._pending or self._state is None or self.mode is Mode.RESET:
            return None
        wanted = self._wanted(self._state.stamp)
        if wanted is None and self.mode in (Mode.POLICY, Mode.HUMAN):
            if self._now - self._received < self._timeout:
                return None
            self.counts.timeouts += 1
            return self._step(None, Clamp.STALE)
        return self._step(wanted, Clamp.NONE)

    def _answer_tick(self) -> Step | None:
        if self._state is None or self.mode is Mode.RESET:
            return None
        wanted = self._wanted(self._state.stamp + self._now - self._received) if self._state_is_fresh else None
        missing = wanted is None and self.mode in (Mode.POLICY, Mode.HUMAN)
        return self._step(wanted, Clamp.STALE if missing else Clamp.NONE)

    def _wanted(self, stamp: int) -> Wanted | None:
        """Return what the drivers of the present mode want at `stamp` (ns), None if they have not said."""
        command = self._motion_so_far().position if self._held is None else self._held
        wanted = self._mux.wanted(stamp, self.group_source, self._teleop, command)
        if wanted is not None and wanted.row is not None and wanted.row.late:
            self.counts.late_chunks += wanted.row.chunk.chunk_id != self._late_id
            self._late_id = wanted.row.chunk.chunk_id
        return wanted

    def _motion_so_far(self) -> Motion:
        if self._motion is None:
            assert self._state is not None
            self._motion = self._safety.rest(self._state.position)
        return self._motion

    def _step(self, wanted: Wanted | None, clamp: Clamp) -> Step:
        """Answer the newest joint state with `wanted`, or hold."""
        assert self._state is not None
        last = self._motion_so_far()
        if wanted is not None:
            if self._held is None:  # joints that nobody drives brake where they are
                last = Motion(last.position, last.velocity, np.where(wanted.held, last.position, last.request))
            self._motion, clamped = self._safety.apply(wanted.target, last)
            clamped |= wanted.clamp
        elif self._held is not None:
            self._motion, clamped = self._safety.apply(self._held, last)
        else:
            self._motion, clamped = self._safety.stop(last)
        clamp |= clamped
        self.counts.stale += bool(clamp & Clamp.STALE)
        self.counts.nonfinite += bool(clamp & Clamp.NONFINITE)
        self.counts.see(clamp)
        row = wanted.row if wanted is not None else None
        sources = wanted.sources if wanted is not None else (Source.HOLD,) * len(self._human)
        step = Step(
            stamp=self._state.stamp,
            tick=self._tick,
            episode_id=self._task.episode_id,
            requested=wanted.requested if wanted is not None else None,
            executed=self._motion.position,
            source=max(sources),  # HUMAN over POLICY over HOLD
            clamp=clamp,
            chunk_id=row.chunk.chunk_id if row is not None else "",
            chunk_index=row.index if row is not None else -1,
            policy_version=row.chunk.policy_version if row is not None else "",
            group_source=sources,
        )
        self._tick += 1
        self._pending = False
        return step

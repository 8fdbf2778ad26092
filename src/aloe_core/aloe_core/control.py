"""Vocabulary of the arbiter: modes and their transitions, the events that go in, the decisions that come out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto

import numpy as np

from aloe_core.episode.data import Source
from aloe_core.motion import Clamp
from aloe_core.types import Chunk


class Mode(IntEnum):
    """Values of ControlMode."""

    HOLD = 0
    POLICY = 1
    HUMAN = 2
    ESTOP = 3
    RESET = 4


class LateChunk(Enum):
    """What the arbiter does when the policy's next chunk is late (missed deadline)."""

    HOLD = "hold"  # run the chunk to its end, then hold the last command until the next one comes
    SLOW = "slow"  # play the rows after `execute` ever slower, then hold
    STOP = "stop"  # run the chunk to its end, then HOLD the measured position until a mode is requested


class Trigger(Enum):
    """What can change the mode."""

    ESTOP = auto()
    ESTOP_RESET = auto()
    PRESS = auto()
    HAND_BACK = auto()
    RELEASE = auto()
    REGROUP = auto()
    TELEOP_LOST = auto()
    DEADLINE = auto()
    ASK_HOLD = auto()
    ASK_POLICY = auto()
    ASK_RESET = auto()


# E-stop beats human beats policy. A pair that is missing is refused.
TRANSITIONS: dict[tuple[Mode, Trigger], Mode] = {
    (Mode.HOLD, Trigger.PRESS): Mode.HUMAN,
    (Mode.HOLD, Trigger.ASK_POLICY): Mode.POLICY,
    (Mode.HOLD, Trigger.ASK_RESET): Mode.RESET,
    (Mode.POLICY, Trigger.PRESS): Mode.HUMAN,
    (Mode.POLICY, Trigger.ASK_HOLD): Mode.HOLD,
    (Mode.POLICY, Trigger.ASK_RESET): Mode.RESET,
    (Mode.POLICY, Trigger.DEADLINE): Mode.HOLD,
    (Mode.HUMAN, Trigger.HAND_BACK): Mode.POLICY,
    (Mode.HUMAN, Trigger.RELEASE): Mode.HOLD,
    (Mode.HUMAN, Trigger.REGROUP): Mode.HUMAN,
    (Mode.HUMAN, Trigger.DEADLINE): Mode.HUMAN,
    (Mode.HUMAN, Trigger.TELEOP_LOST): Mode.HOLD,
    (Mode.HUMAN, Trigger.ASK_HOLD): Mode.HOLD,
    (Mode.HUMAN, Trigger.ASK_RESET): Mode.RESET,
    (Mode.RESET, Trigger.PRESS): Mode.HUMAN,
    (Mode.RESET, Trigger.ASK_HOLD): Mode.HOLD,
    (Mode.RESET, Trigger.ASK_POLICY): Mode.POLICY,
    (Mode.ESTOP, Trigger.ESTOP_RESET): Mode.HOLD,
    **{(mode, Trigger.ESTOP): Mode.ESTOP for mode in Mode if mode is not Mode.ESTOP},
}

ASKED = {
    Mode.HOLD: Trigger.ASK_HOLD,
    Mode.POLICY: Trigger.ASK_POLICY,
    Mode.RESET: Trigger.ASK_RESET,
}


@dataclass(frozen=True)
class RobotState:
    """A joint state: stamp in ns, position float64 [J] in contract order."""

    stamp: int
    position: np.ndarray


@dataclass(frozen=True)
class Teleop:
    """A person's command; `joints` are contract indices of `positions`.

    The person holds the joint groups of `joints` (all if there are none); their other joints keep their command.
    """

    stamp: int  # ns, of the robot state that was answered
    engaged: bool  # dead-man held
    joints: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    positions: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class EstopButton:
    """Level of an e-stop input, and of the other buttons that must be let go before a reset."""

    held: bool
    others_held: bool = False


@dataclass(frozen=True)
class AskMode:
    """A request to change the mode, with its one reason."""

    mode: Mode
    cause: str
    only_in: Mode | None = None  # what is asked for is beside the point in any other mode


@dataclass(frozen=True)
class ResetEstop:
    """The explicit reset of a latched e-stop."""


@dataclass(frozen=True)
class TaskInfo:
    """The episode at hand; an empty id means none."""

    episode_id: str
    supervision: str


@dataclass(frozen=True)
class Tick:
    """The control timer fired; unused in lock-step."""


Event = RobotState | Chunk | Teleop | EstopButton | AskMode | ResetEstop | TaskInfo | Tick


@dataclass(frozen=True)
class Change:
    """A mode change; a chunk observed before `stamp` (ns) never runs after it."""

    mode: Mode
    previous: Mode
    cause: str
    stamp: int
    sequence: int
    group_source: tuple[Source, ...] = ()  # of each joint group of the contract


@dataclass(frozen=True)
class Step:
    """One control tick, as in ExecutedStep."""

    stamp: int  # ns, of the joint state that is answered
    tick: int
    episode_id: str
    requested: np.ndarray | None  # float64 [J]
    executed: np.ndarray  # float64 [J]
    source: Source
    clamp: Clamp
    chunk_id: str = ""
    chunk_index: int = -1
    policy_version: str = ""
    group_source: tuple[Source, ...] = ()  # of each joint group of the contract


@dataclass(frozen=True)
class Decision:
    """What follows from one event."""

    change: Change | None = None
    step: Step | None = None
    refusal: str = ""  # why the request was not granted, one sentence


@dataclass
class Counts:
    """What went wrong since the start."""

    timeouts: int = 0  # lock-step answers given without the input they waited for
    stale: int = 0  # ticks held because an input was missing or too old
    fenced: int = 0  # chunks dropped because they were observed before the last mode change
    nonfinite: int = 0  # requests and joint states dropped
    late_chunks: int = 0  # times a chunk ran past the steps it was meant for
    old_states: int = 0  # joint states dropped because a newer one had come before
    clamps: Counter[Clamp] = field(default_factory=Counter)  # ticks, per single reason

    def see(self, clamp: Clamp) -> None:
        """Count each reason of a tick."""
        for reason in Clamp:
            if reason & clamp:
                self.clamps[reason] += 1

"""A scripted person at the station: demonstrates, watches, takes over when things go wrong, labels the outcome."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError
from aloe_core.settings import load_settings
from aloe_sim.expert import Expert
from aloe_sim.skill import PRESETS, Skill
from aloe_sim.station import Station

Supervision = Literal["demonstrate", "supervise", "watch"]


class HumanConfig(BaseModel):
    """How the person behaves; config/human.yaml holds these defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    demonstration: Skill = PRESETS["good"]
    correction: Skill = Skill(speed=0.95, speed_spread=0.1, aim_spread=0.003, wobble=0.004)
    reaction: tuple[float, float] = (0.4, 1.2)  # s, from trouble to the hand on the leader arm
    inattention: float = Field(0.0, ge=0, le=1)  # share of reactions that come late
    lapse: tuple[float, float] = (1.0, 3.0)  # s, by which a late reaction comes later
    label_delay: tuple[float, float] = (0.0, 0.0)  # s, from seeing the outcome to the label
    patience: float = Field(1.5, gt=0)  # s without progress that count as trouble
    progress: float = Field(0.02, gt=0, lt=1)  # rise of the stage that counts as progress
    setback: float = Field(0.15, gt=0, lt=1)  # fall of the stage that counts as trouble
    reserve: float = Field(4.0, ge=0)  # s before the time limit at which an unfinished task counts as trouble
    settled: float = Field(0.3, ge=0)  # s a correction must have held before the policy gets the robot back

    @model_validator(mode="after")
    def _ordered(self) -> HumanConfig:
        for name in ("reaction", "lapse", "label_delay"):
            shortest, longest = getattr(self, name)
            if not 0 <= shortest <= longest:
                raise ValueError(f"{name} as [shortest, longest], not negative")
        return self


def load_human(path: str | Path) -> HumanConfig:
    """Read a person's configuration; AloeError names file, key, value and expectation."""
    return load_settings(path, HumanConfig)


@dataclass(frozen=True)
class HumanAction:
    """What the person does at one tick."""

    engaged: bool  # dead-man held
    command: np.ndarray | None  # float64 [A], joint positions in contract order, while engaged
    label: Outcome | None  # success or failure, at the tick it is said


class Attention(Enum):
    """What the person is busy with."""

    WATCHING = 0
    REACTING = 1
    DRIVING = 2


class ScriptedHuman:
    """Looks at `station` once per tick; on a real graph the station mirrors the simulator. Make one per episode."""

    def __init__(
        self,
        station: Station,
        config: HumanConfig | None = None,
        seed: int = 0,
        supervision: Supervision = "supervise",
        time_limit: float = 0.0,
    ) -> None:
        """`time_limit` (s) of the episode, 0 for the task's own; AloeError for an unknown supervision."""
        if supervision not in get_args(Supervision):
            known = ", ".join(get_args(Supervision))
            raise AloeError(f"Unknown supervision {supervision!r}: expected one of {known}.")
        self._station = station
        self._config = config or HumanConfig()
        self._supervision = supervision
        self._rng = np.random.default_rng([seed, 1])
        self._deadline = (time_limit or station.time_limit) - self._config.reserve
        self._expert: Expert | None = None
        self._seen: Outcome | None = None  # how it went
        self._say_at = 0.0  # s
        self.attention = Attention.WATCHING
        self._watch()

    def update(self) -> HumanAction:
        """Look at the station as it is now and return what the person does about it."""
        station = self._station
        if self._seen is None:
            self._see()
        if self._seen is not None and station.time >= self._say_at:
            said, self._seen = self._seen, None
            return HumanAction(False, None, said)
        if self._supervision == "watch":
            return HumanAction(False, None, None)
        if self._supervision == "demonstrate":
            return self._drive(self._config.demonstration)
        if self._seen is None:
            self._attend()
        if self.attention is not Attention.DRIVING:
            return HumanAction(False, None, None)
        return self._drive(self._config.correction)

    # --- watching ----------------------------------------------------------------------------------------------

    def _attend(self) -> None:
        """Change over between watching, reacting and driving."""
        if self.attention is Attention.DRIVING and self._corrected():
            self._watch()
        elif self.attention is Attention.WATCHING and self._trouble():
            self.attention = Attention.REACTING
            self._react_at = self._station.time + self._reaction()
        elif self.attention is Attention.REACTING and self._station.time >= self._react_at:
            self._take_over()

    def _see(self) -> None:
        """Note the outcome; what happens until it is said does not change the person's mind."""
        if self._station.success or self._station.failure:
            self._seen = Outcome.SUCCESS if self._station.success else Outcome.FAILURE
            shortest, longest = self._config.label_delay
            self._say_at = self._station.time + (self._rng.uniform(shortest, longest) if longest else 0.0)

    def _reaction(self) -> float:
        """Draw how long the person takes from trouble to the takeover, s."""
        late = self._config.inattention and self._rng.random() < self._config.inattention
        return self._rng.uniform(*self._config.reaction) + (self._rng.uniform(*self._config.lapse) if late else 0.0)

    def _watch(self) -> None:
        self.attention = Attention.WATCHING
        self._expert = None
        self._best = self._station.stage
        self._best_at = self._station.time

    def _trouble(self) -> bool:
        stage, now = self._station.stage, self._station.time
        if stage > self._best + self._config.progress:
            self._best, self._best_at = stage, now
        stuck = now - self._best_at > self._config.patience
        lost = stage < self._best - self._config.setback
        return stuck or lost or now >= self._deadline

    # --- correcting --------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        self.attention = Attention.DRIVING
        self._reached_before = self._station.task.milestones(self._station)
        self._good_since: float | None = None

    def _corrected(self) -> bool:
        now = self._station.time
        if self._station.task.milestones(self._station) <= self._reached_before:
            self._good_since = None
        elif self._good_since is None:
            self._good_since = now
        settled = self._good_since is not None and now - self._good_since >= self._config.settled
        return settled and now < self._deadline

    def _drive(self, skill: Skill) -> HumanAction:
        if self._expert is None:
            self._expert = Expert(self._station, skill, seed=int(self._rng.integers(2**31)))
        return HumanAction(True, self._expert.act(), None)

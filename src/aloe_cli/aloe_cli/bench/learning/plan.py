"""What the learning benchmark compares, and how much of everything each run gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from aloe_core.errors import AloeError
from aloe_critic import variants
from aloe_sim.human import HumanConfig
from aloe_sim.skill import PRESETS

Observe = Literal["images", "objects"]
# Of the person who takes over. Imitation looks good only with a near-perfect one, so every table says which.
# Alone, from the start, they do sorting/easy in 50, 50 and 26 of 50 episodes (docs/station.md).
HUMANS = {
    "skilled": HumanConfig(),
    "average": HumanConfig(correction=PRESETS["mediocre"]),
    "clumsy": HumanConfig(correction=PRESETS["bad"]),
}
SEEDS_A_RUN = 100_000  # training seeds of run s: [s * SEEDS_A_RUN, (s + 1) * SEEDS_A_RUN)
ROUND = 1_000  # of which each round of collection has so many
EVAL_SEED = 1_000_000  # first seed of measured episodes; no run trains on these


@dataclass(frozen=True)
class Row:
    """One run: a task learned by one method, with one person, from one seed."""

    task: str
    level: str
    method: str  # with its variants: aloe_select+priors
    human: str
    seed: int

    @property
    def learner(self) -> str:
        return variants.split(self.method)[0]

    @property
    def variants(self) -> list[str]:
        return variants.split(self.method)[1]

    @property
    def key(self) -> str:
        return f"{self.task}-{self.level}_{self.human}_{self.method}_s{self.seed}"

    @property
    def warm_key(self) -> str:
        """Of the warm start, which the methods share."""
        return f"{self.task}-{self.level}_s{self.seed}"

    def seeds(self, round_: int) -> int:
        """Return the first training seed of a round; round 0 demonstrates."""
        return self.seed * SEEDS_A_RUN + round_ * ROUND

    def eval_seed(self) -> int:
        """Return the first seed of the measured episodes: the same for all methods, others for another run."""
        return EVAL_SEED + self.seed * ROUND


@dataclass(frozen=True)
class Budget:
    """What one run may use; a round ends when either is spent, the episode under way is finished first."""

    demonstrations: int = 10
    rounds: int = 3
    interaction: float = 300.0  # s of robot time over all rounds, both drivers; resets are free
    successes: int = 0  # successful supervised episodes over all rounds; 0 = no limit
    evaluated: int = 50  # autonomous episodes after the warm start and after each round
    evaluated_last: int = 0  # after the last round; 0 = as many as after the others
    observe: Observe = "images"  # objects: poses in place of cameras, no encoder to learn
    overrides: dict[str, Any] = field(default_factory=dict)  # of aloe_critic.hyper


def once(what: str, names: list[str]) -> list[str]:
    """Return the names; AloeError if one stands there twice: its runs would be made side by side and counted twice."""
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise AloeError(f"{what} = {twice[0]!r}: named twice.")
    return names


def rows(
    tasks: list[str], levels: dict[str, str], methods: list[str], humans: list[str], seeds: int, known: list[str]
) -> list[Row]:
    """Return every run asked for, seed by seed; AloeError for a method, variant or human unknown or named twice."""
    for what, names in (("method", methods), ("human", humans)):
        once(what, names)
    for method in methods:
        learner, _ = variants.split(method)
        if learner not in known:
            raise AloeError(f"method = {learner!r}: expected one of {', '.join(known)}.")
    for human in humans:
        if human not in HUMANS:
            raise AloeError(f"human = {human!r}: expected one of {', '.join(HUMANS)}.")
    return [
        Row(task, levels[task], method, human, seed)
        for seed, task, human, method in product(range(seeds), tasks, humans, methods)
    ]

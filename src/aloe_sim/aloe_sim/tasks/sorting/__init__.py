"""Sorting: put things from the table into bins; one bin for the first levels, several that the words name after."""

from __future__ import annotations

import mujoco
import numpy as np

from aloe_sim.robots.base import Robot
from aloe_sim.tasks.base import Scene, Tactic, Task
from aloe_sim.tasks.sorting.one_bin import AREA, BIN, BIN_HEIGHT, BIN_INNER, BIN_WALL, BLOCK, OneBin
from aloe_sim.tasks.sorting.several_bins import SeveralBins

__all__ = ["AREA", "BIN", "BIN_HEIGHT", "BIN_INNER", "BIN_WALL", "BLOCK", "Sorting"]


class Sorting(Task):
    """`easy`, `two`: blocks into the only bin. `three`, `six`: things into two or three bins; two arms, a hand-over."""

    levels = (*OneBin.levels, *SeveralBins.levels)

    def __init__(self, level: str, variant: str) -> None:
        super().__init__(level, variant)
        kind = OneBin if level in OneBin.levels else SeveralBins
        self._task: Task = kind(level, variant)
        self.items, self.arms, self.time_limit = self._task.items, self._task.arms, self._task.time_limit

    def build(self, spec: mujoco.MjSpec, robot: Robot) -> None:
        self._task.build(spec, robot)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> str:
        return self._task.reset(model, data, rng)

    def interact(self, scene: Scene) -> None:
        self._task.interact(scene)

    def succeeded(self, scene: Scene) -> bool:
        return self._task.succeeded(scene)

    def failed(self, scene: Scene) -> bool:
        return self._task.failed(scene)

    def progress(self, scene: Scene) -> float:
        return self._task.progress(scene)

    def milestones(self, scene: Scene) -> int:
        return self._task.milestones(scene)

    def tactic(self) -> Tactic:
        return self._task.tactic()

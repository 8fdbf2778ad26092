"""The phases of a run, kept on disk while they last: a killed run goes on with the same draws."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from aloe_cli.bench.updates_cases import one_graph
from aloe_core.errors import AloeError
from aloe_critic.flat.learner import FlatLearner

Tell = Callable[[str, int, int], None]  # what is going on, how much of it is done, of how much

NOTED_EVERY = 250  # updates between the losses that are kept
SAVED_EVERY_S = 30.0  # s; what a killed run does again, at most


class Phases:
    """Runs phases of updates one after the other; `path` holds where they are."""

    def __init__(self, learner: FlatLearner, path: Path, tell: Tell) -> None:
        self._learner, self._path, self._tell = learner, path, tell
        self._graph = one_graph if learner.device.type == "cuda" else None
        self._next = 0  # phases run so far in this process
        self._phase, self._step = 0, -1  # as on disk; -1: not even prepared
        self._names: list[str] = []
        self._losses: list[list[float]] = []  # phase, step, mean loss of the updates since the entry before
        if path.exists():
            state = load_file(path)
            self._phase, self._step = state.pop("at").tolist()
            self._losses = state.pop("losses", torch.zeros(0, 3)).tolist()
            learner.load_state(state)

    def run(self, what: str, prepare: Callable[[], None], update: Callable[[], Tensor], steps: int) -> None:
        """Do `prepare` and `steps` updates, or what is missing of them; AloeError if they diverge.

        On a GPU recording the graph takes three more, and three again when a stopped phase goes on.
        """
        mine = self._next
        self._next += 1
        self._names.append(what)
        if mine < self._phase:
            return
        first = self._step if mine == self._phase else -1
        if first < 0:
            prepare()
            self._save(mine, first := 0)
        if self._graph is not None and first < steps:
            update = self._graph(update)
        total, since, saved = torch.zeros((), device=self._learner.device), first, time.monotonic()
        for step in range(first + 1, steps + 1):
            total += (loss := update())
            if step % 50 == 0:
                self._tell(what, step, steps)
            if step % NOTED_EVERY == 0 or step == steps:
                if not torch.isfinite(loss):
                    raise AloeError(f"The {what} diverged: its last loss is {loss.item()}.")
                self._losses.append([mine, step, total.item() / (step - since)])
                total, since = torch.zeros_like(total), step
                if step == steps or time.monotonic() - saved >= SAVED_EVERY_S:
                    self._save(mine, step)
                    saved = time.monotonic()

    @property
    def losses(self) -> dict[str, list[list[float]]]:
        """Of every phase run so far: after how many updates, the mean loss since the entry before."""
        return {
            name: [[int(step), loss] for phase, step, loss in self._losses if phase == mine]
            for mine, name in enumerate(self._names)
        }

    def _save(self, phase: int, step: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}")
        losses = torch.tensor(self._losses, dtype=torch.float64).reshape(-1, 3)
        save_file(self._learner.state() | {"at": torch.tensor([phase, step]), "losses": losses}, temporary)
        os.replace(temporary, self._path)

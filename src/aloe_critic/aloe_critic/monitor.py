"""Training curves for people: TensorBoard always, Weights & Biases or trackio where installed and asked for."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from aloe_core.errors import AloeError

VARIABLE = "ALOE_TRACKER"  # names a tracker where a request names none


class Tracker(Protocol):
    """What else a run may be shown by."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a point to a curve; every curve has steps of its own."""

    def finish(self) -> None:
        """End the run."""


class Monitor:
    """Scalars and texts of one run; closes with its context."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any], tracker: str = "") -> None:
        """`folder` gets TensorBoard's event file; nothing leaves this machine unless `tracker`, or ALOE_TRACKER in the
        environment, names a tracker and that one is set up to send.

        AloeError if that is none of those there are, not installed, or does not start.
        """
        kind = find_tracker(tracker)
        self._tracker = kind(folder, name, config) if kind else None
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if self._tracker is not None:
            self._tracker.finish()

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a point to a curve."""
        self._writer.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.scalar(name, value, step)

    def figures(self, metrics: Mapping[str, object], step: int) -> None:
        """Add what an iteration came to, one point each; what is no number is left to the checkpoint's manifest."""
        for name, value in metrics.items():
            if isinstance(value, (int, float)):
                self.scalar(f"figures/{name}", float(value), step)

    def text(self, name: str, words: str) -> None:
        """Note something."""
        self._writer.add_text(name, words)


class Wandb:
    """Weights & Biases; WANDB_MODE=offline keeps its files in the run's folder."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(project="aloe", name=name, config=config, dir=str(folder))
        except wandb.Error as error:
            raise AloeError(
                f"wandb does not start ({' '.join(str(error).split())}); log in, or set WANDB_MODE=offline."
            ) from error
        self._known: set[str] = set()

    def scalar(self, name: str, value: float, step: int) -> None:
        axis = f"step/{name.rpartition('/')[2]}"
        if name not in self._known:  # its own counter only ever grows, and phases begin anew
            self._run.define_metric(axis)
            self._run.define_metric(name, step_metric=axis)
            self._known.add(name)
        self._run.log({name: value, axis: step})

    def finish(self) -> None:
        self._run.finish()


class Trackio:
    """trackio, which keeps its files under TRACKIO_DIR."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        del folder
        self._module = importlib.import_module("trackio")
        self._module.init(project="aloe", name=name, config=config)

    def scalar(self, name: str, value: float, step: int) -> None:
        self._module.log({name: value}, step=step)

    def finish(self) -> None:
        self._module.finish()


TRACKERS: dict[str, type[Wandb] | type[Trackio]] = {"wandb": Wandb, "trackio": Trackio}


def find_tracker(wanted: str) -> type[Wandb] | type[Trackio] | None:
    """Return the tracker asked for here or in the environment, None if none is; AloeError if it cannot be had."""
    where, wanted = ("tracker", wanted) if wanted else (VARIABLE, os.environ.get(VARIABLE, ""))
    if not wanted:
        return None
    if wanted not in TRACKERS:
        raise AloeError(f"{where} = {wanted!r}: expected {' or '.join(TRACKERS)}.")
    if importlib.util.find_spec(wanted) is None:
        raise AloeError(f"{where} = {wanted!r}: not installed; pip install {wanted}, or ask for none.")
    return TRACKERS[wanted]

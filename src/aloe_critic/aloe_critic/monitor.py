"""Training curves for people: TensorBoard always, Weights & Biases or trackio where they are installed and wanted."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from aloe_core.errors import AloeError


class Monitor:
    """Scalars and texts of one run; closes with its context."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        """`folder` gets TensorBoard's event file; ALOE_TRACKER in the environment names a tracker to run as well.

        AloeError if that is neither wandb nor trackio, or not installed.
        """
        self._writer = SummaryWriter(str(folder))
        self._tracker = _tracker(name, config)

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
            self._tracker.log({name: value, "step": step})

    def text(self, name: str, words: str) -> None:
        """Note something."""
        self._writer.add_text(name, words)


def _tracker(name: str, config: dict[str, Any]) -> Any:
    wanted = os.environ.get("ALOE_TRACKER", "")
    if not wanted:
        return None
    if wanted not in ("wandb", "trackio"):
        raise AloeError(f"ALOE_TRACKER = {wanted!r}: expected wandb or trackio.")
    if importlib.util.find_spec(wanted) is None:
        raise AloeError(f"ALOE_TRACKER = {wanted!r}: not installed; pip install {wanted}, or unset it.")
    module = importlib.import_module(wanted)
    module.init(project="aloe", name=name, config=config)
    return module

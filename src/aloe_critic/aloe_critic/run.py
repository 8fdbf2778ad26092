"""The folder of one training run: what was asked, the bags it learns from, its saved phases and its curves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNS = ".runs"  # beside the checkpoints; a dot keeps it out of their list
PHASES = "[0-9][0-9]-"  # what the names of saved phases begin with, see Loop
_FILE = "run.json"


@dataclass
class Run:
    """A run that goes on where an earlier one with the same request stopped.

    Bags that came since are left for the next run: a resumed run must see what it saw before.
    """

    path: Path
    asked: dict[str, Any]
    bags: dict[str, str] | None  # key and signature of each bag, None in a run that has not begun

    @classmethod
    def open(cls, root: Path, version: str, asked: dict[str, Any], *, fresh: bool = False) -> Run:
        """Find the unfinished run that was to become `version`, or start one; another request starts anew."""
        path = root / RUNS / version
        asked = json.loads(json.dumps(asked, default=str))
        try:
            known = json.loads((path / _FILE).read_text())
        except (OSError, ValueError):
            known = {}
        if fresh or known.get("asked") != asked:
            known = {}
        bags = known.get("bags")
        return cls(path, asked, bags if isinstance(bags, dict) else None)

    @property
    def resumes(self) -> bool:
        """Whether there is something to go on from."""
        return self.bags is not None and any(self.path.glob(f"{PHASES}*.safetensors"))

    def begin(self, bags: Mapping[str, str]) -> None:
        """Make the folder, empty of other requests' states and curves, and note the bags that this run learns from."""
        self.bags = dict(bags)
        self.path.mkdir(parents=True, exist_ok=True)
        self.finish()
        for events in self.path.glob("events.*"):
            events.unlink()
        part = self.path / f"{_FILE}.partial"
        part.write_text(json.dumps({"asked": self.asked, "bags": self.bags}))
        part.replace(self.path / _FILE)

    def abandon(self) -> None:
        """Leave nothing behind of a run that could not begin."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # other runs are there
            self.path.parent.rmdir()

    def finish(self) -> None:
        """Drop what only a run that can be gone on with needs; the curves and the batch of a bad step stay."""
        for file in (*self.path.glob(f"{PHASES}*.safetensors"), *self.path.glob("*.partial"), self.path / _FILE):
            file.unlink(missing_ok=True)

"""A disk small enough to be filled: a tmpfs of its own, where mounting is allowed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from aloe_core.errors import AloeError

_SIZE_MB = 128  # recovery wants 64 free


class SmallDisk:
    """Mounted while the block lasts; AloeError where mounting is not allowed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def __enter__(self) -> SmallDisk:
        self.path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "aloe-faults", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise AloeError(f"No disk can be filled: mounting a tmpfs is not allowed here ({done.stderr.strip()}).")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def fill(self) -> None:
        """Leave nothing free."""
        with self._filler.open("wb") as file:
            state = os.statvfs(self.path)
            os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize)

    def empty(self) -> None:
        self._filler.unlink()

"""Runs file_server.py for a test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Server:
    """A file server process; `url` is its root."""

    def __init__(self, folder: Path, *options: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("file_server.py")), str(folder), *map(str, options)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> list[tuple[str, int, int]]:
        """End it and return its requests: path, first byte asked for, status."""
        self._process.terminate()
        out, _ = self._process.communicate(timeout=10)
        return [(path, int(start), int(status)) for path, start, status in map(str.split, out.splitlines())]


@contextmanager
def serving(folder: Path, *options: object) -> Iterator[Server]:
    server = Server(folder, *options)
    try:
        yield server
    finally:
        server.stop()

"""Policy servers as processes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPENPI = Path(__file__).parent / "openpi_server.py"


class Served:
    """A server process that has said where it listens: `url`."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # the first that it prints
        found = re.search(r"ws://\S+", line)
        assert found, f"{line!r}; {log.read_text()}"
        self.url, self.line = found[0], line

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def end(self) -> int:
        self.process.kill()
        return self.process.wait()


@contextmanager
def served(command: list[str], log: Path) -> Iterator[Served]:
    server = Served(command, log)
    try:
        yield server
    finally:
        server.end()


def openpi(log: Path, port: int = 0):
    """The server that speaks openpi's protocol exactly."""
    return served([sys.executable, str(OPENPI), str(port)], log)


def native(checkpoint: Path, contract: Path, log: Path, *options: str):
    """`./aloe policy-server` for a checkpoint."""
    verb = [sys.executable, "-m", "aloe_cli", "policy-server", "--port", "0"]
    return served([*verb, "--checkpoint", str(checkpoint), "--contract", str(contract), *options], log)

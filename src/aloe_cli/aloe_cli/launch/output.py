"""Where the lines of the processes go: screen, the log file of the launch, a file of their own."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TextIO

from aloe_core.errors import AloeError

_ROUTES: dict[str, dict[str, set[str]]] = {
    "screen": {"stdout": {"screen"}, "stderr": {"screen"}},
    "log": {"stdout": {"log"}, "stderr": {"log", "screen"}},
    "both": {"stdout": {"screen", "log"}, "stderr": {"screen", "log"}},
    "own_log": {"stdout": {"own"}, "stderr": {"own"}},
    "full": {"stdout": {"screen", "log", "own"}, "stderr": {"screen", "log", "own"}},
}


def log_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Create and return the folder of this launch under ROS_LOG_DIR, ROS_HOME/log or ~/.ros/log."""
    home = environment.get("ROS_HOME") or str(Path.home() / ".ros")
    root = Path(environment.get("ROS_LOG_DIR") or Path(home) / "log")
    stamp = datetime.now().strftime("%Y-%m-%d-%H-%M-%S-%f")
    folder = root / f"{stamp}-{socket.gethostname()}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise AloeError(
            f"{folder}: cannot be created ({error.strerror}); set ROS_LOG_DIR to another folder."
        ) from error
    return folder


class Output:
    """Writes prefixed lines; `on_broken_screen` is called once when nobody reads standard output any more."""

    def __init__(self, folder: Path, on_broken_screen: Callable[[], None]) -> None:
        self._folder = folder
        self._files = ExitStack()
        self._log = self._append("launch.log")
        self._own: dict[str, TextIO] = {}
        self._screen: TextIO | None = sys.stdout
        self._on_broken_screen = on_broken_screen

    def say(self, label: str, message: str, level: str = "INFO") -> None:
        """Write a line of the launch system itself."""
        self._write({"screen", "log"}, label, f"[{level}] [{label}]: {message}")

    def line(self, label: str, route: str, source: str, text: str) -> None:
        """Write a line that process `label` printed on `source` (stdout or stderr)."""
        self._write(_ROUTES[route][source], label, f"[{label}] {text}")

    def close(self) -> None:
        """Close the files; the screen stays open."""
        self._files.close()

    def _append(self, name: str) -> TextIO:
        return self._files.enter_context(open(self._folder / name, "a", buffering=1))

    def _write(self, targets: set[str], label: str, line: str) -> None:
        if "log" in targets:
            self._log.write(f"{time.time():.7f} {line}\n")
        if "own" in targets:
            if label not in self._own:
                self._own[label] = self._append(f"{label}.log")
            self._own[label].write(line + "\n")
        if "screen" in targets and self._screen is not None:
            try:
                print(line, file=self._screen, flush=True)
            except BrokenPipeError:
                self._screen = None
                self._on_broken_screen()


class Lines:
    """Cuts a byte stream into lines."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Pass on every complete line of what has arrived."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._write(line.decode(errors="replace").rstrip("\r"))

    def finish(self) -> None:
        """Pass on a last line that has no end."""
        if self._rest:
            self._write(self._rest.decode(errors="replace"))
        self._rest = b""

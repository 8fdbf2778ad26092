"""Progress for long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console

PLAIN_PERIOD = 10.0  # s between plain lines


class Task(Protocol):
    """One measured piece of work."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Count `steps` more as done; `note` is shown behind the bar."""
        ...


class _Bar:
    def __init__(self, progress: object, task: object) -> None:
        self._progress = progress
        self._task = task

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._progress.update(self._task, advance=steps, note=note)  # type: ignore[attr-defined]


class _Plain:
    """Prints on the first step, every PLAIN_PERIOD seconds and at the end."""

    def __init__(self, what: str, total: float | None, console: Console) -> None:
        self._what = what
        self._total = total
        self._console = console
        self._done = 0.0
        self._printed_at = -PLAIN_PERIOD
        self._printed_done = -1.0
        self._note = ""
        self._start = time.monotonic()

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._done += steps
        self._note = note or self._note
        if time.monotonic() - self._printed_at >= PLAIN_PERIOD:
            self.print()

    def print(self) -> None:
        if self._printed_done == self._done:
            return
        self._printed_at = time.monotonic()
        self._printed_done = self._done
        of = f"/{self._total:g}" if self._total else ""
        elapsed = self._printed_at - self._start
        line = f"{self._what}: {self._done:g}{of}, {elapsed:.0f} s {self._note}".rstrip()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress(what: str, total: float | None = None, *, console: Console | None = None) -> Iterator[Task]:
    """Yield a Task that shows how far `what` is; `total` None means unknown. Everything goes to stderr by default."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        plain = _Plain(what, total, console)
        try:
            yield plain
        finally:
            plain.print()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        yield _Bar(bars, bars.add_task(what, total=total, note=""))

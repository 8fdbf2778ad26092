"""Progress for long work: bars on a terminal, a line now and then elsewhere. Everything goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_PERIOD = 10.0  # s between plain lines


class Stages:
    """Named pieces of work, one after another or side by side; `console` is for tests."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars: Progress | None = None
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bars = Progress(*columns, console=self._console)
        self._tasks: dict[str, TaskID] = {}
        self._plain: dict[str, _Plain] = {}

    def __enter__(self) -> Stages:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        for plain in self._plain.values():
            plain.print()

    def show(self, what: str, done: float, total: float | None = None, note: str = "") -> None:
        """Say that `done` of `total` (None: unknown) steps of `what` are done."""
        if self._bars is None:
            self._plain.setdefault(what, _Plain(what, self._console)).show(done, total, note)
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, note="")
        self._bars.update(self._tasks[what], completed=done, total=total, note=note)


class Task:
    """One measured piece of work that counts for itself."""

    def __init__(self, stages: Stages, what: str, total: float | None) -> None:
        self._stages = stages
        self._what = what
        self._total = total
        self._done = 0.0

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Count `steps` more as done; `note` is shown behind the bar."""
        self._done += steps
        self._stages.show(self._what, self._done, self._total, note)


@contextmanager
def progress(what: str, total: float | None = None, *, console: Console | None = None) -> Iterator[Task]:
    """Yield a Task that shows how far `what` is; `total` None means unknown."""
    with Stages(console) as stages:
        yield Task(stages, what, total)


class _Plain:
    """Prints the first step, then every PLAIN_PERIOD seconds, and the last one."""

    def __init__(self, what: str, console: Console) -> None:
        self._what = what
        self._console = console
        self._start = time.monotonic()
        self._next = self._start
        self._line = ""
        self._printed = ""

    def show(self, done: float, total: float | None, note: str) -> None:
        now = time.monotonic()
        of = f"/{total:g}" if total else ""
        self._line = f"{self._what}: {done:g}{of}, {now - self._start:.0f} s {note}".rstrip()
        if now >= self._next or done == total:
            self._next = now + PLAIN_PERIOD
            self.print()

    def print(self) -> None:
        if self._line != self._printed:
            self._console.print(self._line, highlight=False, markup=False, soft_wrap=True)
            self._printed = self._line

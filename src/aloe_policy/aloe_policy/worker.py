"""A thread that runs one job at a time; a newer job replaces one that has not begun."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class NewestWins(Generic[Job]):
    """Runs `run(job)` in a thread of its own.

    An exception of `run` ends the thread and is handed to `crashed`, so that the owner can end too.
    """

    def __init__(self, name: str, run: Callable[[Job], None], crashed: Callable[[Exception], None]) -> None:
        self._run = run
        self._crashed = crashed
        self._pending: Job | None = None
        self._closed = self._busy = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        with self._changed:
            self._pending = job
            self._changed.notify()

    def submit_if_idle(self, job: Job) -> None:
        """Submit a job that is worth nothing while another one runs or waits."""
        with self._changed:
            if not self._busy and self._pending is None:
                self._pending = job
                self._changed.notify()

    @property
    def superseded(self) -> bool:
        """Whether the job that runs is in the way of a newer one, or of `close`."""
        return self._pending is not None or self._closed

    def wait(self, seconds: float) -> bool:
        """For the job that runs: wait until it is superseded, at most `seconds`; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.superseded, seconds)

    def close(self, timeout: float = 5.0) -> None:
        """Drop what has not begun and wait for what has, s."""
        with self._changed:
            self._closed = True
            self._pending = None
            self._changed.notify()
        self._thread.join(timeout)

    def _loop(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._run(job)
        except Exception as error:  # noqa: BLE001  not ours to judge: the owner gets it
            self._crashed(error)

    def _next(self) -> Job | None:
        with self._changed:
            self._busy = False
            while self._pending is None and not self._closed:
                self._changed.wait()
            job, self._pending = self._pending, None
            self._busy = job is not None
            return job

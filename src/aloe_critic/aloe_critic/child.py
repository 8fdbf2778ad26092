"""Training as a child process that cannot outlive its parent: JSON in by file, JSON lines out."""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from aloe_core.errors import AloeError

_PR_SET_PDEATHSIG = 1
ENVIRONMENT = {
    # Threads spin for about a millisecond before they sleep: woken for every small product, two are slower than one. No
    # longer, for the robot's other processes may share the cores (docs/results/updates.md).
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "20000",
    # Every step needs the memory of the one before again; given back and fetched anew it costs an eighth of the time.
    # `./aloe train` sets the last three.
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
_LAST_WORDS = 20  # lines of standard error kept for the report


class TrainingChild:
    """One run of `python -m MODULE --request FILE`, which prints progress and at the end a result or an error.

    Start it, read `events()` and wait in one thread: the kernel ends the child with the thread that started it.
    `cancel` may be called from any thread.
    """

    def __init__(self, request: Mapping[str, object], module: str = "aloe_critic.trainer", nice: int = 5) -> None:
        self._module = module
        self._cancelled = threading.Event()
        self._errors: deque[str] = deque(maxlen=_LAST_WORDS)
        handle, name = tempfile.mkstemp(prefix="aloe_train_", suffix=".json")
        self._request = Path(name)
        with os.fdopen(handle, "w") as file:
            json.dump(dict(request), file)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid()), str(nice), module, "--request", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env=ENVIRONMENT | os.environ,
        )
        self._reader = threading.Thread(target=self._read_errors, name="training-stderr", daemon=True)
        self._reader.start()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def events(self) -> Iterator[dict[str, object]]:
        """Yield progress objects and return after the one that holds `result`.

        AloeError with the child's own error, or with how it died. What the child prints besides goes to stderr.
        """
        assert self._process.stdout is not None
        result = error = None
        try:
            for line in self._process.stdout:
                event = _parse(line)
                if event is None:
                    sys.stderr.write(line)
                elif "error" in event:
                    error = str(event["error"])
                else:
                    result = event if "result" in event else result
                    yield event
            code = self._process.wait()
        finally:
            self.cancel(grace=2.0)
            self._request.unlink(missing_ok=True)
        self._reader.join(5.0)
        if self.cancelled and result is None:
            raise AloeError("Training was cancelled.")
        if error is not None:
            raise AloeError(error)
        if result is None:
            raise AloeError(f"Training ended without a result, {_ending(code)}{self._last_words()}.")

    def cancel(self, grace: float = 5.0) -> None:
        """SIGTERM to the child and what it started, SIGKILL after `grace` seconds; returns when it is gone."""
        if self._process.poll() is not None:
            return
        self._cancelled.set()
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.killpg(self._process.pid, number)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            sys.stderr.write(line)
            if line.strip():
                self._errors.append(line.strip())

    def _last_words(self) -> str:
        return f": {self._errors[-1].rstrip('.')}" if self._errors else ""


def _parse(line: str) -> dict[str, object] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"phase", "result", "error"} & event.keys() else None


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main() -> None:
    """In the child: tie its life to the parent's, be nice, become the module."""
    parent, nice, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent ended before training began")
    os.nice(nice)
    sys.argv = [module, *sys.argv[4:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

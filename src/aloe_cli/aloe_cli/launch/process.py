"""One child process in a session of its own; it and everything it started end with the runner."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `command`; the kernel kills it when the calling thread's process dies, however that happens.

    It leads its own process group, so a Ctrl-C on the terminal reaches only the runner, which passes it on once.
    """
    runner = os.getpid()

    def die_with_runner() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != runner:  # it died before the line above
            os._exit(1)

    # The output of Python nodes shall appear when it is printed.
    return subprocess.Popen(
        command,
        env={"PYTHONUNBUFFERED": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_runner,
    )


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether the process has ended, leaving it unreaped so that its group id stays taken."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def reap(process: subprocess.Popen[bytes]) -> int:
    """Kill what an ended process left behind in its group and return its exit code (negative: signal)."""
    signal_group(process, signal.SIGKILL)
    return process.wait()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to an unreaped process and everything in its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)

"""Processes that compile side by side and are then measured one after the other, each with the machine to itself."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from aloe_core.errors import AloeError


def in_turn(
    commands: Sequence[Sequence[str]], told: str, environment: Mapping[str, str], tell: Callable[[str, int], None]
) -> Iterator[dict[str, Any]]:
    """Give what each command prints as JSON: all are awaited until they print `ready`, then told to go in turn.

    `tell` gets what is going on and how many are done. AloeError, with the last line of what it said, if one fails.
    """
    with tempfile.TemporaryFile() as said, ExitStack() as ended:
        running = []
        for command in commands:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=dict(environment)
            )
            ended.callback(_end, process)
            running.append(process)
        for n, process in enumerate(running, 1):
            if _line(process) != "ready":
                raise AloeError(_failed(process, said))
            tell("compiled", n)
        for n, process in enumerate(running, 1):
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it ended after it was ready: there is no line then
                process.stdin.write(f"{told}\n")
                process.stdin.flush()
            line = _line(process)
            if not line:
                raise AloeError(_failed(process, said))
            _end(process)  # its memory is free before the next is measured
            yield json.loads(line)
            tell("measured", n)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _failed(process: subprocess.Popen[str], said: Any) -> str:
    process.wait()
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines() or ["nothing was said"]
    return f"{' '.join(map(str, process.args[:3]))} … failed: {lines[-1]}"

"""Shared by the tests of the verbs: `./aloe` in a process of its own, what came of it."""

import json
import os
import subprocess
import sys
from typing import NamedTuple


def aloe(*words, env=None):
    """Run `./aloe` and return the finished process."""
    command = [sys.executable, "-m", "aloe_cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})})


class Done(NamedTuple):
    """What a command came to; as subprocess has it."""

    returncode: int
    stdout: str
    stderr: str


def fails_in_one_sentence(done, code):
    """Tell whether `done` failed with `code` and one line on stderr."""
    return done.returncode == code and len(done.stderr.splitlines()) == 1 and done.stderr.rstrip()[-1] in ".?"


def result(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])

"""Keeps the processes of a plan until they end or are told to."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO

from aloe_cli.launch import process
from aloe_cli.launch.command import command
from aloe_cli.launch.node import NodeSpec
from aloe_cli.launch.output import Lines, Output

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class State(Enum):
    """Where a node is in its life."""

    WAITING = "waiting"  # for its first start or for respawn
    RUNNING = "running"
    ENDED = "ended"


@dataclass
class Child:
    """A node and the process that runs it."""

    spec: NodeSpec
    command: list[str]
    state: State = State.WAITING
    process: subprocess.Popen[bytes] | None = None
    exit_code: int | None = None  # of the last process
    restarts: int = 0
    died: bool = False  # ended with an error of its own, not because it was told to stop
    last_words: str = ""  # last line it wrote to stderr
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    pipes: dict[IO[bytes], Lines] = field(default_factory=dict)


class Runner:
    """Starts the nodes, passes their output on and stops all of them on SIGINT, SIGTERM, SIGHUP or SIGQUIT.

    Stopping sends SIGINT, after `term_after` s SIGTERM, after `kill_after` s more SIGKILL. A node that dies does not
    stop the others unless it says on_exit="shutdown".
    """

    def __init__(self, specs: list[NodeSpec], folder: Path) -> None:
        self.children = [Child(spec, command(spec, folder / "parameters")) for spec in specs]
        self._output = Output(folder, on_broken_screen=lambda: self._stop("standard output was closed"))
        self._stopping = False
        self._changed = asyncio.Event()

    async def run(self) -> list[Child]:
        """Run until every node has ended; return them with their exit codes."""
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop, f"received {number.name}")
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        try:
            for child in self.children:
                if not self._stopping:
                    self._start(child)
                    await asyncio.sleep(0)  # let a Ctrl-C through
            while any(child.state is not State.ENDED for child in self.children):
                await self._changed.wait()
                self._changed.clear()
            return self.children
        finally:
            self._kill_all()
            for number in (*_STOP_SIGNALS, signal.SIGCHLD):
                loop.remove_signal_handler(number)
            self._output.close()

    def _start(self, child: Child) -> None:
        label = child.spec.label
        try:
            child.process = process.start(child.command, child.spec.environment)
        except OSError as error:
            self._output.say(label, f"cannot be started ({error.strerror}): {child.command[0]}", "ERROR")
            child.died = True
            self._ended(child, error.errno or 1)
            return
        child.state = State.RUNNING
        self._output.say(label, f"process started with pid [{child.process.pid}]")
        assert child.process.stdout is not None and child.process.stderr is not None
        self._follow(child, child.process.stdout, "stdout")
        self._follow(child, child.process.stderr, "stderr")
        self._reap()  # its SIGCHLD may have come before it was RUNNING

    def _follow(self, child: Child, pipe: IO[bytes], source: str) -> None:
        def write(text: str) -> None:
            self._output.line(child.spec.label, child.spec.output, source, text)
            if source == "stderr" and text.strip():
                child.last_words = text.strip()

        os.set_blocking(pipe.fileno(), False)
        child.pipes[pipe] = Lines(write)
        asyncio.get_running_loop().add_reader(pipe, self._read, child, pipe)

    def _read(self, child: Child, pipe: IO[bytes]) -> bool:
        """Pass on what has arrived; tell whether there may be more."""
        try:
            data = os.read(pipe.fileno(), 65536)
        except BlockingIOError:
            return False
        if data:
            child.pipes[pipe].feed(data)
            return True
        self._close(child, pipe)
        return False

    def _close(self, child: Child, pipe: IO[bytes]) -> None:
        asyncio.get_running_loop().remove_reader(pipe)
        child.pipes.pop(pipe).finish()
        pipe.close()

    def _drain(self, child: Child) -> None:
        """Pass on the last output of a process that has ended."""
        for pipe in list(child.pipes):
            while self._read(child, pipe):
                pass
            if pipe in child.pipes:  # something that left the group still holds the other end
                self._close(child, pipe)

    def _reap(self) -> None:
        for child in self.children:
            if child.state is State.RUNNING and child.process is not None and process.has_ended(child.process):
                self._ended(child, process.reap(child.process))

    def _ended(self, child: Child, code: int) -> None:
        """Record the end of a process, and start it again or stop the others where its node asks for that."""
        child.state, child.exit_code = State.ENDED, code
        self._cancel(child)
        self._drain(child)
        self._changed.set()
        if child.process is not None:
            self._report_end(child, child.process.pid, code)
        respawn = child.spec.respawn
        if self._stopping:
            return
        if respawn is not None and child.restarts != respawn.retries and not child.died:
            child.state = State.WAITING
            child.timers.append(asyncio.get_running_loop().call_later(respawn.delay, self._again, child))
            return
        child.died = child.died or code != 0
        if child.spec.shutdown_on_exit:
            self._stop(f"{child.spec.label} has ended")

    def _report_end(self, child: Child, pid: int, code: int) -> None:
        if code == 0:
            self._output.say(child.spec.label, f"process has finished cleanly [pid {pid}]")
            return
        level = "INFO" if self._stopping else "ERROR"
        words = shlex.join(child.command)
        self._output.say(child.spec.label, f"process has died [pid {pid}, exit code {code}, cmd '{words}'].", level)

    def _again(self, child: Child) -> None:
        child.restarts += 1
        self._start(child)

    def _stop(self, reason: str) -> None:
        running = [child for child in self.children if child.state is State.RUNNING]
        if self._stopping:
            names = ", ".join(child.spec.label for child in running)
            self._output.say("launch", f"{reason} again; already stopping {names}", "WARNING")
            return
        self._stopping = True
        self._changed.set()
        self._output.say("launch", f"{reason}: stopping {len(running)} processes")
        for child in self.children:
            self._cancel(child)
            if child.state is State.WAITING:
                child.state = State.ENDED
        for child in running:
            self._signal(child, signal.SIGINT)
            spec = child.spec
            self._later(child, spec.term_after, lambda c=child: self._escalate(c, signal.SIGTERM))
            self._later(child, spec.term_after + spec.kill_after, lambda c=child: self._escalate(c, signal.SIGKILL))

    def _escalate(self, child: Child, number: signal.Signals) -> None:
        self._output.say(child.spec.label, f"process has not ended yet, sending {number.name}", "WARNING")
        self._signal(child, number)

    def _signal(self, child: Child, number: signal.Signals) -> None:
        if child.state is State.RUNNING and child.process is not None:
            process.signal_group(child.process, number)

    def _later(self, child: Child, delay: float, call: Callable[[], None]) -> None:
        child.timers.append(asyncio.get_running_loop().call_later(delay, call))

    def _cancel(self, child: Child) -> None:
        for timer in child.timers:
            timer.cancel()
        child.timers.clear()

    def _kill_all(self) -> None:
        """Leave no process behind, also when the runner itself fails."""
        for child in self.children:
            self._cancel(child)
            if child.state is State.RUNNING and child.process is not None:
                child.exit_code = process.reap(child.process)
                child.state = State.ENDED
                self._drain(child)

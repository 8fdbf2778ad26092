"""The runner as its user meets it: `./aloe launch` in a process of its own, real children, real signals."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PATIENCE = 20.0  # s; only a broken runner uses it up

# Each prints "ready" first. {} is where a test puts a child's own child.
CHILDREN = {
    "polite": "print('ready'); signal.pause()",
    "stubborn": "signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready'); signal.pause()",
    "deaf": "[signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; print('ready')\nwhile True: signal.pause()",
    "parent": "p = subprocess.Popen(['sleep', '1000']); print('ready', p.pid); signal.pause()",
    "clean": "print('ready')",
    "dying": "print('ready'); print('last words', end='', file=sys.stderr); sys.exit(3)",
    "delayed": "print('ready'); time.sleep(0.3); sys.exit(4)",
}
HEADER = f"#!{sys.executable}\nimport signal, subprocess, sys, time\n"


class Launch:
    """A running `./aloe launch`; its output is read line by line."""

    def __init__(self, path: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "aloe_cli", "launch", "--built-in", str(path), *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.lines: list[str] = []
        self._watchdog = threading.Timer(2 * PATIENCE, self.process.kill)
        self._watchdog.start()

    def wait_for(self, pattern: str, count: int = 1) -> list[re.Match]:
        """Read until `count` lines match; fails if the output ends before."""
        found = [m for m in (re.search(pattern, line) for line in self.lines) if m]
        while len(found) < count:
            line = self.process.stdout.readline()
            assert line, f"output ended before {pattern!r}: {self.lines}"
            self.lines.append(line.rstrip("\n"))
            match = re.search(pattern, line)
            found += [match] if match else []
        return found

    def finish(self) -> int:
        """Read the rest and return the exit code."""
        rest, _ = self.process.communicate(timeout=PATIENCE)
        self.lines += rest.splitlines()
        return self.process.returncode

    def close(self) -> None:
        """Kill the runner if it still runs."""
        self._watchdog.cancel()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    @property
    def pids(self) -> list[int]:
        started = (re.search(r"process started with pid \[(\d+)\]", line) for line in self.lines)
        return [int(m.group(1)) for m in started if m]


@pytest.fixture
def launch(tmp_path, launch_file):
    """Launch nodes given as (child, attributes); what is left over at the end is killed."""
    for name, body in CHILDREN.items():
        script = tmp_path / name
        script.write_text(HEADER + body + "\n")
        script.chmod(0o755)
    running = []

    def start(*nodes: tuple[str, str], arguments: tuple[str, ...] = ()) -> Launch:
        xml = "\n".join(f'<node exec="{tmp_path / name}" {attributes}/>' for name, attributes in nodes)
        running.append(Launch(launch_file(xml), *arguments))
        return running[-1]

    yield start
    for one in running:
        one.close()


def gone(pid: int, within: float = PATIENCE) -> bool:
    """Wait until process `pid` has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within)[0])
    finally:
        os.close(handle)


SCREEN = 'output="screen"'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_all_children_by_sigint_and_counts_as_success(launch, number):
    run = launch(("polite", SCREEN), ("polite", SCREEN))
    run.wait_for(r"\[polite-\d\] ready", 2)
    run.process.send_signal(number)
    assert run.finish() == 0
    assert all(gone(pid) for pid in run.pids)
    assert sum("exit code -2" in line or "exit code 1" in line for line in run.lines) == 2


def test_child_that_ignores_sigint_gets_sigterm_and_one_that_ignores_both_gets_sigkill(launch):
    run = launch(("stubborn", SCREEN), ("deaf", SCREEN), arguments=("sigterm_timeout:=0.3", "sigkill_timeout:=0.3"))
    run.wait_for("ready", 2)
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 0
    text = "\n".join(run.lines)
    assert re.search(r"\[stubborn-1\]: process has died \[pid \d+, exit code -15,", text)
    assert re.search(r"\[deaf-2\]: process has died \[pid \d+, exit code -9,", text)
    assert all(gone(pid) for pid in run.pids)


def test_a_second_ctrl_c_changes_nothing_but_is_answered(launch):
    run = launch(("stubborn", SCREEN), arguments=("sigterm_timeout:=1",))
    run.wait_for("ready")
    run.process.send_signal(signal.SIGINT)
    run.wait_for("received SIGINT: stopping 1 processes")
    run.process.send_signal(signal.SIGINT)
    run.wait_for("received SIGINT again; already stopping stubborn-1")
    assert run.finish() == 0
    assert any("exit code -15" in line for line in run.lines)


def test_death_of_one_node_leaves_the_others_running_and_makes_the_exit_code_1(launch):
    run = launch(("polite", SCREEN), ("dying", SCREEN))
    run.wait_for(r"\[dying-2\]: process has died \[pid \d+, exit code 3, cmd '.*dying --ros-args'\]\.")
    run.wait_for(r"\[polite-1\] ready")
    assert not gone(run.pids[0], within=0)
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 1
    assert any(
        re.search(r"died by itself: dying-2 \(exit code 3, 'last words'\); logs are in", line) for line in run.lines
    )


def test_launch_ends_with_success_when_all_nodes_have_finished_cleanly(launch):
    run = launch(("clean", SCREEN), ("clean", SCREEN), arguments=("--json",))
    assert run.finish() == 0
    result = json.loads(run.lines[-1])
    assert [(n["name"], n["exit_code"]) for n in result["nodes"]] == [("clean-1", 0), ("clean-2", 0)]


def test_on_exit_shutdown_stops_the_others(launch):
    run = launch(("polite", SCREEN), ("delayed", SCREEN + ' on_exit="shutdown"'))
    assert run.finish() == 1
    assert all(gone(pid) for pid in run.pids)
    assert any("delayed-2 has ended: stopping 1 processes" in line for line in run.lines)


def test_respawn_restarts_a_dead_node_until_its_retries_are_used_up(launch):
    run = launch(("dying", SCREEN + ' respawn="true" respawn_delay="0.05" respawn_max_retries="2"'))
    assert run.finish() == 1
    assert len(run.pids) == 3


def test_respawned_node_does_not_count_as_dead(launch):
    run = launch(("delayed", SCREEN + ' respawn="true"'), arguments=("--json",))
    run.wait_for("process started", 2)
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 0
    assert json.loads(run.lines[-1])["nodes"][0]["restarts"] >= 1


def test_ctrl_c_while_waiting_to_respawn_ends_at_once(launch):
    run = launch(("dying", SCREEN + ' respawn="true" respawn_delay="1000"'))
    run.wait_for("process has died")
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 0
    assert len(run.pids) == 1


def test_killed_runner_leaves_no_child_behind(launch):
    run = launch(("polite", SCREEN), ("deaf", SCREEN))
    run.wait_for("ready", 2)
    run.process.kill()
    run.process.wait()
    assert all(gone(pid) for pid in run.pids)


def test_what_a_child_started_ends_with_it(launch):
    run = launch(("parent", SCREEN))
    (match,) = run.wait_for(r"ready (\d+)")
    grandchild = int(match.group(1))
    os.kill(run.pids[0], signal.SIGKILL)
    assert run.finish() == 1
    assert gone(grandchild)


def test_output_goes_where_the_file_says(launch, tmp_path):
    run = launch(("dying", 'output="log"'), ("clean", 'output="own_log"'))
    assert run.finish() == 1
    screen = "\n".join(run.lines)
    assert "[dying-1] last words" in screen  # stderr is shown also under log
    assert "[dying-1] ready" not in screen
    assert "[clean-2] ready" not in screen
    (folder,) = (tmp_path / "log").iterdir()
    assert "[dying-1] ready" in (folder / "launch.log").read_text()
    assert (folder / "clean-2.log").read_text() == "[clean-2] ready\n"


def test_closed_standard_output_stops_the_children(launch):
    run = launch(("polite", SCREEN), ("delayed", SCREEN + ' respawn="true"'))
    run.wait_for("ready", 2)
    run.process.stdout.close()
    run.process.wait(PATIENCE)
    assert all(gone(pid) for pid in run.pids)


def test_file_that_is_no_program_is_reported_and_the_others_go_on(launch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    run = launch(("broken", ""), ("clean", SCREEN))
    assert run.finish() == 1
    assert any("[broken-1]: cannot be started" in line for line in run.lines)
    assert any("[clean-2]: process has finished cleanly" in line for line in run.lines)


def test_output_without_a_log_folder_is_refused_in_one_sentence(launch, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "file"))
    run = launch(("clean", SCREEN))
    assert run.finish() == 2
    assert len(run.lines) == 1
    assert "set ROS_LOG_DIR to another folder" in run.lines[0]

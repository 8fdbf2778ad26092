"""`./aloe bench record`: the real recorder under a robot's full load, over DDS, from publishers in other processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import rclpy
import typer
import yaml
from aloe_msgs.msg import EpisodeEvent
from aloe_msgs.srv import StartRecording, StopRecording
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.table import Table

from aloe_cli import paths
from aloe_cli.bench.hardware import hardware
from aloe_cli.bench.record_load import EPISODE
from aloe_cli.command import VerbApp
from aloe_cli.errors import AloeFailure
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.contract import load_contract
from aloe_core.episode.bag import read_bag
from aloe_core.errors import AloeError
from aloe_ros.probe import Probe

STARTUP = 60.0  # s of wall time for discovery and services
KINDS = ("camera", "robot")  # one publishing process each

app = VerbApp(help="Measure the episode recorder.")


@app.command()
def record(
    seconds: Annotated[float, typer.Option(help="Length of the take.")] = 20.0,
    cameras: Annotated[int, typer.Option(help="JPEG cameras of 640x480.")] = 4,
    camera_hz: Annotated[float, typer.Option(help="Frames a second of each.")] = 30.0,
    control_hz: Annotated[float, typer.Option(help="Joint states and executed steps a second.")] = 200.0,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Record one take and compare what is in the bag with what was sent.

    cpu_cores is the recorder's own processor time, all threads and the closing of the bag, over the time of sending.
    """
    for name, value in (("seconds", seconds), ("cameras", cameras), ("control-hz", control_hz)):
        if value <= 0:
            raise AloeError(f"{name} = {value:g}: expected more than 0.")
    with tempfile.TemporaryDirectory(prefix="aloe-bench-") as work:
        robot = _contract(Path(work), paths.contract(contract), cameras, camera_hz, control_hz)
        row = measure(Path(work), robot, seconds) | {"hardware": hardware()}
    _print(row)
    return row


def measure(work: Path, contract: Path, seconds: float) -> dict[str, Any]:
    """Record `seconds` of the streams that the contract names, in processes that end with this call."""
    with ExitStack() as stack, progress("record", 3) as bar:
        given = ["-p", f"contract:={contract}", "-p", f"bag_dir:={work / 'bags'}"]
        recorder = stack.enter_context(_process("aloe_teleop.nodes.episode_recorder", "--ros-args", *given, work=work))
        loads = [
            stack.enter_context(_process("aloe_cli.bench.record_load", str(contract), kind, str(seconds), work=work))
            for kind in KINDS
        ]
        client = stack.enter_context(_client())
        bar.advance(note="publishers and recorder find each other")
        for load in loads:
            _line(load, work)
        client.start(EPISODE)
        before, start = cpu_seconds(recorder.pid), time.monotonic()
        bar.advance(note=f"{seconds:g} s are recorded")
        for load in loads:
            _tell(load)
        sent: dict[str, int] = {}
        for load in loads:
            sent |= json.loads(_line(load, work))
        wall = time.monotonic() - start
        bag = client.stop(EPISODE)
        spent = cpu_seconds(recorder.pid) - before
        for load in loads:
            _tell(load)
    counts = read_bag(bag, types=()).counts
    topics = {name: {"expected": count, "received": counts.get(name, 0)} for name, count in sent.items()}
    expected, received = sum(sent.values()), sum(row["received"] for row in topics.values())
    size = sum(file.stat().st_size for file in bag.iterdir())
    return {
        "received": received,
        "expected": expected,
        "dropped": expected - received,
        "cpu_cores": round(spent / wall, 3),
        "cpu_us_per_message": round(1e6 * spent / max(1, received), 1),
        "megabytes_per_s": round(size / wall / 1e6, 2),
        "seconds": round(wall, 2),
        "topics": topics,
    }


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used, user and system, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class _Client:
    """Calls the recorder's services."""

    node: Node
    executor: SingleThreadedExecutor

    def start(self, episode_id: str) -> None:
        request = StartRecording.Request(episode_id=episode_id, task="bench")
        self._call(StartRecording, "recorder/start", request)

    def stop(self, episode_id: str) -> Path:
        request = StopRecording.Request(
            episode_id=episode_id, outcome=EpisodeEvent.OUTCOME_NONE, end="truncated", reason="end of the benchmark"
        )
        return Path(self._call(StopRecording, "recorder/stop", request).path)

    def _call(self, kind: type, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        deadline = time.monotonic() + STARTUP
        probe = Probe(self.node, name)
        while not probe.done() and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.05)
        future = client.call_async(request)
        self.executor.spin_until_future_complete(future, timeout_sec=max(1.0, deadline - time.monotonic()))
        if not future.done():
            raise AloeFailure(f"The recorder did not answer {name} within {STARTUP:.0f} s.")
        if not future.result().success:
            raise AloeFailure(f"{name}: {future.result().message}")
        return future.result()


@contextmanager
def _client() -> Iterator[_Client]:
    rclpy.init()
    node = rclpy.create_node("bench_record")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        yield _Client(node, executor)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


@contextmanager
def _process(module: str, *arguments: str, work: Path) -> Iterator[subprocess.Popen[str]]:
    log = (work / f"{module}_{len(list(work.glob('*.log')))}.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        log.close()


def _line(process: subprocess.Popen[str], work: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        said = "; ".join(line for log in work.glob("*.log") for line in log.read_text().splitlines()[-1:])
        raise AloeFailure(f"A process of the benchmark ended early: {said or 'it said nothing'}.")
    return line


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _contract(work: Path, base: Path, cameras: int, camera_hz: float, control_hz: float) -> Path:
    """Write the contract `base` with other cameras and another control rate."""
    load_contract(base)
    document = yaml.safe_load(base.read_text())
    document["cameras"] = [
        {
            "name": f"camera_{k}",
            "topic": f"cameras/camera_{k}",
            "width": 640,
            "height": 480,
            "rate_hz": camera_hz,
            "frame_id": f"camera_{k}_optical_frame",
        }
        for k in range(cameras)
    ]
    document["control"]["rate_hz"] = control_hz
    document.pop("model", None)  # nothing is commanded here
    path = work / "contract.yaml"
    path.write_text(yaml.safe_dump(document))
    load_contract(path)
    return path


def _print(row: dict[str, Any]) -> None:
    table = Table("topic", "sent", "in the bag", box=None, pad_edge=False)
    for name, count in row["topics"].items():
        table.add_row(name, str(count["expected"]), str(count["received"]))
    console = Console()
    console.print(table)
    console.print(
        f"{row['dropped']} of {row['expected']} messages lost, {row['cpu_cores']} cores, "
        f"{row['megabytes_per_s']} MB/s on {row['hardware']}.",
        highlight=False,
    )

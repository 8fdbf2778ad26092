"""`./aloe bench swap`: from the announcement of a checkpoint to its first chunk, while the policy drives."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rclpy
import typer
from rich.console import Console

from aloe_cli import paths
from aloe_cli.bench.contracts import with_cameras
from aloe_cli.bench.hardware import hardware
from aloe_cli.bench.swap_rig import SwapRig, Swaps
from aloe_cli.bench.takeover import start_pose
from aloe_cli.command import VerbApp
from aloe_cli.errors import AloeFailure
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.checkpoint import manifest_sha256
from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_policy.untrained import write_untrained
from aloe_ros.domain import own_domain
from aloe_ros.testing import node_process

app = VerbApp(help="Measure swaps of the policy through the real nodes.")

_PATIENCE = 180.0  # s, for a swap on a busy machine
_BETWEEN = 2.0  # s of driving around each swap


@app.command()
def swap(
    swaps: Annotated[int, typer.Option(help="Checkpoints announced one after another.")] = 5,
    http: Annotated[bool, typer.Option(help="Fetch them from an HTTP server on this machine.")] = False,
    cameras: Annotated[int, typer.Option(help="JPEG cameras.")] = 3,
    pixels: Annotated[int, typer.Option(help="Width and height of a frame.")] = 224,
    candidates: Annotated[int, typer.Option(help="Chunks sampled for each one sent, 1 to 256.")] = 8,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Announce checkpoints of the usual size to a policy that drives a robot.

    seconds: from the announcement to the first chunk of the new version. missed_ticks: control ticks that had no row of
    a chunk, or did not happen, in that time; missed_ticks_between is the same for as long a time without a swap.
    `missed` says which: ticks at which the robot held, and ticks that did not happen (absent).
    versions_in_one_chunk and steps_of_an_older_version say whether a chunk was ever mixed or came back: 1 and 0.
    """
    for name, value in (("swaps", swaps), ("cameras", cameras), ("pixels", pixels), ("candidates", candidates)):
        if value < 1:
            raise AloeError(f"{name} = {value}: expected at least 1.")
    with tempfile.TemporaryDirectory(prefix="aloe-bench-") as folder:
        work = Path(folder)
        path = with_cameras(paths.contract(contract), work, cameras, pixels, 50.0)
        robot = load_contract(path)
        write_untrained(work / "checkpoints", robot, near=0.01)
        new = [write_untrained(work / "new", robot, f"v{n:04d}-untrained", near=0.01) for n in range(2, swaps + 2)]
        seen = drive(work, path, robot, new, http, candidates)
    row = {"swap": report(seen, robot.dt), "swaps": swaps, "http": http, "hardware": hardware()}
    figures = row["swap"]
    Console().print(
        f"First chunk {figures['seconds']['p50']} s after the announcement (at most {figures['seconds']['max']}), "
        f"{figures['missed_ticks']} ticks missed meanwhile, {figures['missed_ticks_between']} in as long without.",
        highlight=False,
    )
    return row


def drive(work: Path, path: Path, contract: RobotContract, new: list[Path], http: bool, candidates: int) -> Swaps:
    """Run both nodes and announce `new` one after another; AloeFailure if one does not get to drive."""
    own_domain()
    given = {"contract": path}
    policy = given | {
        "checkpoint_dir": work / "checkpoints",
        "cache_dir": work / "cache",
        "candidates": candidates,
    }
    rclpy.init()
    with ExitStack() as stack, progress("swap", 1 + len(new)) as bar:
        stack.callback(rclpy.try_shutdown)
        rig = SwapRig(contract, start_pose(contract), 50.0)
        stack.callback(rig.close)
        stack.enter_context(node_process("aloe_teleop.nodes.arbiter_node", given, work / "arbiter.log"))
        stack.enter_context(node_process("aloe_policy.nodes.policy_node", policy, work / "policy.log"))
        root = stack.enter_context(served(new[0].parent)) if http else str(new[0].parent)
        try:
            rig.connect()
            bar.advance()
            rig.drive(2 * _BETWEEN)  # the first chunks warm up
            rig.swaps.steps.clear()
            rig.drive(_BETWEEN)
            for checkpoint in new:
                rig.swap(checkpoint.name, f"{root}/{checkpoint.name}", manifest_sha256(checkpoint), _PATIENCE)
                rig.drive(_BETWEEN)
                bar.advance()
        except AssertionError as error:  # how a Spinner says that something did not happen in time
            ends = (work / "policy.log").read_text().strip().split("\n")[-1]
            raise AloeFailure(f"The swap failed: {error}; the policy node said last: {ends}") from error
        return rig.swaps


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder by HTTP from another process; give its URL."""
    with socket.socket() as probe:  # the server prints its port to nobody
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def report(seen: Swaps, dt: float) -> dict[str, Any]:
    """Return the figures; `dt` is the control period, s."""
    seconds = [seen.first_chunk[version] - at for version, at in seen.announced.items()]
    times = np.array([at for at, *_ in seen.steps])
    held = np.array([not policy for _, policy, *_ in seen.steps])
    swapping = [(at, seen.first_chunk[version] + dt) for version, at in seen.announced.items()]
    between = [(begin - (end - begin), begin) for begin, end in swapping]

    def missed(windows: list[tuple[float, float]]) -> dict[str, int]:
        holds = absent = 0
        for begin, end in windows:
            inside = (times >= begin) & (times < end)
            holds += int(held[inside].sum())
            absent += max(0, int((end - begin) / dt) - 1 - int(inside.sum()))  # it may begin and end within a period
        return {"held": holds, "absent": absent}

    versions: dict[str, set[str]] = {}
    order = {version: number for number, version in enumerate(seen.announced, 1)}
    newest = older = 0
    for _, policy, chunk, version in seen.steps:
        if policy:
            versions.setdefault(chunk, set()).add(version)
            older += order.get(version, 0) < newest
            newest = max(newest, order.get(version, 0))
    return {
        "seconds": {"p50": round(float(np.median(seconds)), 3), "max": round(max(seconds), 3)},
        "missed_ticks": sum(missed(swapping).values()),
        "missed_ticks_between": sum(missed(between).values()),
        "missed": missed(swapping),
        "missed_between": missed(between),
        "versions_in_one_chunk": max((len(v) for v in versions.values()), default=0),
        "steps_of_an_older_version": older,
        "chunks": len(versions),
    }

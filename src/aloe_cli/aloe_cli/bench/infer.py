"""`./aloe bench infer`: what the graph adds to the model's time, through the real policy_node and arbiter_node."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rclpy
import typer
from rich.console import Console

from aloe_cli import paths
from aloe_cli.bench.contracts import with_cameras
from aloe_cli.bench.hardware import hardware
from aloe_cli.bench.infer_policy import eight_over_one
from aloe_cli.bench.infer_rig import Rig, Seen
from aloe_cli.bench.takeover import start_pose
from aloe_cli.command import VerbApp
from aloe_cli.errors import AloeFailure
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_policy.untrained import write_untrained
from aloe_ros.domain import own_domain
from aloe_ros.testing import node_process

app = VerbApp(help="Measure chunk inference through the real nodes.")


@app.command()
def infer(
    minutes: Annotated[float, typer.Option(help="Length of the run.")] = 0.5,
    cameras: Annotated[int, typer.Option(help="JPEG cameras.")] = 3,
    pixels: Annotated[int, typer.Option(help="Width and height of a frame.")] = 224,
    camera_hz: Annotated[float, typer.Option(help="Frames a second of each camera.")] = 50.0,
    candidates: Annotated[int, typer.Option(help="Chunks sampled for each one sent, 1 to 256.")] = 8,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Drive a robot that follows commands with a native policy of random weights.

    overhead_ms: from the stamp of the observation, which the rig sets when it sends it, to the chunk, less chunk_ms,
    the model's time; JPEG decoding is part of it. in_policy_node_ms: the part of it that policy_node sees, a mean of
    late. to_command_ms adds the model and the wait for the next control tick.
    missed_ticks: control ticks that had no row of a chunk, or did not happen.
    """
    for name, value in (("minutes", minutes), ("cameras", cameras), ("pixels", pixels), ("camera-hz", camera_hz)):
        if value <= 0:
            raise AloeError(f"{name} = {value:g}: expected more than 0.")
    if not 1 <= candidates <= 256:
        raise AloeError(f"candidates = {candidates}: expected 1 to 256.")
    with tempfile.TemporaryDirectory(prefix="aloe-bench-") as folder:
        work = Path(folder)
        path = with_cameras(paths.contract(contract), work, cameras, pixels, camera_hz)
        robot = load_contract(path)
        checkpoint = write_untrained(work / "checkpoints", robot, near=0.01)
        ratio = eight_over_one(checkpoint, robot)
        seen, said = drive(work, path, robot, minutes * 60, camera_hz, candidates)
    row = report(seen, robot.dt) | {
        "eight_over_one": round(ratio, 2),
        "in_policy_node_ms": float(said.get("overhead_ms", 0)),
        "missed_deadlines": int(said.get("missed_deadlines", 0)),
        "candidates": candidates,
        "seconds": round(seen.ended - seen.began, 1),
        "hardware": hardware(),
    }
    Console().print(
        f"Overhead {row['overhead_ms']['p50']} ms (p99 {row['overhead_ms']['p99']}), "
        f"model {row['chunk_ms']['p50']} ms, "
        f"{row['missed_ticks']} of {row['ticks']} ticks missed, 8 chunks {row['eight_over_one']} times one.",
        highlight=False,
    )
    return row


def drive(
    work: Path, path: Path, contract: RobotContract, seconds: float, camera_hz: float, candidates: int
) -> tuple[Seen, dict[str, str]]:
    """Run both nodes in a ROS domain of their own; AloeFailure if the graph stalls. Also the policy's last report."""
    own_domain()
    given = {"contract": path}
    policy = given | {"checkpoint_dir": work / "checkpoints", "candidates": candidates}
    logs = [work / "arbiter.log", work / "policy.log"]
    rclpy.init()
    with ExitStack() as stack, progress("infer", 2) as bar:
        stack.callback(rclpy.shutdown)
        rig = Rig(contract, start_pose(contract), camera_hz)
        stack.callback(rig.close)
        stack.enter_context(node_process("aloe_teleop.nodes.arbiter_node", given, logs[0]))
        stack.enter_context(node_process("aloe_policy.nodes.policy_node", policy, logs[1]))
        try:
            rig.connect()
            bar.advance(note=f"the policy drives for {seconds:g} s")
            seen = rig.measure(seconds)
        except AssertionError as error:  # how a Spinner says that something did not happen in time
            ends = " ".join(log.read_text().strip().split("\n")[-1] for log in logs)
            raise AloeFailure(f"The graph stalled: {error}; the nodes said last: {ends}") from error
        bar.advance()
        return seen, rig.reports


def report(seen: Seen, dt: float) -> dict[str, Any]:
    """Return the figures of a run with control period `dt`, s; AloeFailure if no chunk came."""
    if not seen.model or not seen.to_command:
        raise AloeFailure("No chunk drove the robot while it was measured.")
    expected = int((seen.ended - seen.began) / dt)
    return {
        "overhead_ms": _percentiles(seen.overhead),
        "chunk_ms": _percentiles(seen.model),
        "to_command_ms": _percentiles(seen.to_command),
        "missed_ticks": seen.held + max(0, expected - 1 - seen.ticks),  # the run may begin and end within a period
        "ticks": seen.ticks,
        "chunks": len(seen.model),
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": round(1e3 * float(np.percentile(seconds, p)), 2) for p in (50, 99)}

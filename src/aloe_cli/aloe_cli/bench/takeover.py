"""`./aloe bench takeover`: how fast a person gets the robot, how smoothly, and whether any rule is ever broken."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rclpy
import typer
from rich.console import Console

from aloe_cli import paths
from aloe_cli.bench.hardware import hardware
from aloe_cli.bench.takeover_rig import Drive, Rig
from aloe_cli.command import VerbApp
from aloe_cli.errors import AloeFailure
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_core.kinematics import load_model
from aloe_core.timelines import Tally, play
from aloe_ros.domain import own_domain
from aloe_ros.testing import node_process

_BATCH = 25  # timelines a process plays at once
_NODES = ("arbiter_node", "takeover_node")

app = VerbApp(help="Measure takeovers through the real nodes, and play random timelines against the arbiter's rules.")


@app.command()
def takeover(
    presses: Annotated[int, typer.Option(help="Takeovers in the running graph; 0 leaves it out.")] = 100,
    timelines: Annotated[int, typer.Option(help="Random timelines of the arbiter alone; 0 leaves them out.")] = 10_000,
    ticks: Annotated[int, typer.Option(help="Control ticks of each timeline.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the first timeline and of the moments of the presses.")] = 0,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Print the time from a button press to the last command of the policy, the largest jump and broken rules."""
    path = paths.contract(contract)
    robot = load_contract(path)
    for name, value, least in (("presses", presses, 0), ("timelines", timelines, 0), ("ticks", ticks, 1)):
        if value < least:
            raise AloeError(f"{name} = {value}: expected at least {least}.")
    if not presses and not timelines:
        raise AloeError("presses and timelines are both 0: expected something to measure.")
    row = report(drive(path, robot, presses, seed), soak(path, timelines, ticks, seed)) | {"hardware": hardware()}
    _print(row)
    return row


def drive(path: Path, contract: RobotContract, presses: int, seed: int) -> Drive:
    """Take over `presses` times in a graph of real processes, in a ROS domain of its own; AloeFailure if it stalls."""
    if not presses:
        return Drive()
    own_domain()
    with tempfile.TemporaryDirectory(prefix="aloe-bench-") as folder, progress("takeovers", presses) as bar:
        logs = [Path(folder) / f"{name}.log" for name in _NODES]
        modules = [f"aloe_teleop.nodes.{name}" for name in _NODES]
        given = {"contract": path}
        rclpy.init()
        rig = Rig(contract, start_pose(contract), seed)
        try:
            with node_process(modules[0], given, logs[0]), node_process(modules[1], given, logs[1]):
                rig.connect()
                for _ in range(presses):
                    rig.press()
                    bar.advance()
        except AssertionError as error:  # how a Spinner says that something did not happen in time
            said = " ".join(log.read_text().strip().split("\n")[-1] for log in logs if log.exists())
            raise AloeFailure(f"The graph stalled: {error}; the nodes said last: {said}") from error
        finally:
            rig.close()
            rclpy.shutdown()
        return rig.seen


def start_pose(contract: RobotContract) -> np.ndarray:
    """Return joint positions [J] to drive about: mid-range, or the nearest to it that the model allows."""
    middle, model = (contract.lower + contract.upper) / 2, load_model(contract)
    if model is None or contract.model is None:
        return middle
    rng = np.random.default_rng(0)
    for share in np.linspace(0.0, 1.0, 2000):
        q = middle + share * (rng.uniform(contract.lower, contract.upper) - middle)
        inside = all(
            spec.workspace is None or (np.abs(2 * point - _sum(spec.workspace)) < 0.8 * _span(spec.workspace)).all()
            for point, spec in zip(model.points(q), contract.model.groups.values(), strict=True)
        )
        if inside and model.distance(q, farthest=0.3) > 0.2:
            return q
    raise AloeError(
        f"Contract {contract.name}: no joint positions were found with every hand well inside its workspace."
    )


def _sum(box: Any) -> np.ndarray:
    return np.array(box.max) + np.array(box.min)


def _span(box: Any) -> np.ndarray:
    return np.array(box.max) - np.array(box.min)


def soak(path: Path, timelines: int, ticks: int, seed: int) -> Tally:
    """Play timelines `seed` to `seed + timelines - 1` on all cores."""
    total = Tally()
    if not timelines:
        return total
    spawn = multiprocessing.get_context("spawn")  # rclpy's threads do not survive a fork
    jobs = [
        (path, first, min(_BATCH, seed + timelines - first), ticks) for first in range(seed, seed + timelines, _BATCH)
    ]
    workers = min(len(os.sched_getaffinity(0)), len(jobs))
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool, progress("timelines", timelines) as bar:
        for tally in pool.map(_batch, jobs):
            total.timelines += tally.timelines
            total.ticks += tally.ticks
            total.changes += tally.changes
            total.jump = max(total.jump, tally.jump)
            total.violations += tally.violations
            total.seeds += tally.seeds
            bar.advance(tally.timelines)
    return total


def _batch(job: tuple[Path, int, int, int]) -> Tally:
    path, first, count, ticks = job
    contract, tally = load_contract(path), Tally()
    for number in range(first, first + count):
        play(contract, number, ticks, tally)
    return tally


def report(drive: Drive, soak: Tally) -> dict[str, Any]:
    """Return the figures; an exit code of 1 where a rule was broken."""
    broken = drive.violations + soak.violations.total()
    row: dict[str, Any] = {
        "jump_max_rad": round(max(drive.jump, soak.jump), 6),
        "violations": broken,
        "ticks": drive.ticks + soak.ticks,
        "presses": len(drive.latencies),
        "timelines": soak.timelines,
        "mode_changes": soak.changes,
        "broken": dict(soak.violations.most_common(5)),
        "seeds": soak.seeds[:5],
    }
    if drive.latencies:
        p50, p99, worst = np.percentile(np.array(drive.latencies) * 1e3, [50, 99, 100])
        ms = {"p50": round(p50, 2), "p99": round(p99, 2), "max": round(worst, 2)}
        graph = {"jump_in_graph_rad": round(drive.jump, 6), "takeovers_lost": drive.lost}
        row = {"input_to_last_policy_command_ms": ms, **graph, **row}
    return row | ({"exit_code": 1} if broken else {})


def _print(row: dict[str, Any]) -> None:
    console = Console(highlight=False)
    if ms := row.get("input_to_last_policy_command_ms"):
        console.print(
            f"{row['presses']} takeovers: the policy's last command came {ms['p50']} ms (median), "
            f"{ms['p99']} ms (99 %), {ms['max']} ms (worst) after the press."
        )
    console.print(
        f"{row['ticks']} ticks, {row['timelines']} random timelines: {row['violations']} violations, "
        f"largest step {row['jump_max_rad']} rad. {row['hardware']}."
    )
    for said, times in row["broken"].items():
        console.print(f"{times} times: {said} (seeds {', '.join(map(str, row['seeds']))})", style="red")

"""`./aloe bench rtc`: what a delayed policy loses, and how smoothly its chunks meet, by how they follow each other."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from aloe_cli import paths
from aloe_cli.bench.contracts import with_horizon
from aloe_cli.bench.hardware import hardware
from aloe_cli.bench.learn import task_levels
from aloe_cli.bench.learning.plan import Budget, Row
from aloe_cli.bench.learning.row import warm_start
from aloe_cli.bench.rtc_table import write
from aloe_cli.command import VerbApp
from aloe_cli.paths import ContractOption
from aloe_cli.progress import Stages
from aloe_core.checkpoint import git_revision
from aloe_core.contract import RobotContract, load_contract
from aloe_core.episode.data import EpisodeData, Outcome
from aloe_core.pacing import check_delay
from aloe_policy.chunking import Chunking
from aloe_policy.runtime import FlowRuntime, load_runtime
from aloe_sim import gl  # noqa: F401  chooses the renderer before mujoco is imported
from aloe_sim.borders import border_figures, border_steps
from aloe_sim.collect import Job, collect, summarise

app = VerbApp(help="Compare ways of splicing chunks under a delay on the simulator.")

SEED0 = 2_000_000  # of the measured episodes; no clone is trained on these
PLAIN = "receding"


@dataclass(frozen=True)
class Way:
    """One way to run the policy."""

    delay: int  # control steps from an observation to its chunk
    chunking: str


@app.command()
def rtc(
    tasks: Annotated[
        str, typer.Option(help="Tasks, comma-separated; task/level names a level.")
    ] = "sorting/easy,phone_packing/easy",
    delay: Annotated[int, typer.Option(help="Control steps from an observation to its chunk.", min=1)] = 15,
    episodes: Annotated[int, typer.Option(help="Episodes of each way, one a seed, the same seeds.", min=2)] = 200,
    horizon: Annotated[int, typer.Option(help="Steps of a chunk, in place of the contract's.", min=2)] = 50,
    demonstrations: Annotated[int, typer.Option(help="Demonstrations of each clone.", min=1)] = 80,
    steps: Annotated[int, typer.Option(help="Optimiser steps of each clone's head.", min=1)] = 6000,
    processes: Annotated[int, typer.Option(help="Episodes side by side; 0: one a core.", min=0)] = 0,
    work: Annotated[Path, typer.Option(help="Where clones are kept.", metavar="DIR")] = Path("bench_out/rtc"),
    out: Annotated[Path, typer.Option(help="Result without ending: .json, .md and .png.", metavar="FILE")] = Path(
        "docs/results/rtc"
    ),
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Clone demonstrations seen as poses, then run the clone without a delay, and with it plain and by `rtc`.

    success and seconds (of episodes that every way did) stand beside those without a delay: success_change with its
    95 % interval over paired episodes, slower as a share. Steps are the largest move of a joint asked for from one
    control step to the next, rad, where chunks meet and inside them.
    """
    levels = task_levels(tasks)
    path = with_horizon(paths.contract(contract), work, horizon)
    robot = load_contract(path)
    check_delay(robot.chunk.horizon, delay)
    ways = [Way(0, PLAIN), Way(delay, PLAIN), Way(delay, "rtc")]
    budget = Budget(
        demonstrations,
        observe="objects",
        overrides={"bc_steps": 60, "bc_head_steps": steps, "feature_noise": 0.05},
    )
    clones = work / f"{horizon}-{demonstrations}-{steps}"
    facts = {
        "hardware": hardware(),
        "revision": git_revision() or "unknown",
        "episodes": episodes,
        "demonstrations": demonstrations,
        "head_steps": steps,
        "horizon": horizon,
        "execute": robot.chunk.execute,
        "dt": robot.dt,
    }
    rows, moves = [], []
    with Stages() as stages:
        for task, level in levels.items():
            say = functools.partial(_say, stages, task)
            checkpoint = warm_start(Row(task, level, "bc", "skilled", 0), budget, str(path), str(clones), say)
            found = []
            for way in ways:
                say(f"{task}: {way.chunking}, {way.delay} steps")
                make = functools.partial(load, str(checkpoint), str(path), way.chunking)
                job = Job(robot, task, level, make_policy=make, observe="objects", delay=way.delay)
                found.append(collect(job, range(SEED0, SEED0 + episodes), processes))
            rows += [{"task": task, "level": level} | row for row in compared(ways, found, robot)]
            moves += [border_steps(one, robot) for one in found]
    write(rows, moves, facts, out)
    print(f"{out}.md, {out}.json, {out}.png: {len(rows)} rows")
    return {"rows": rows} | facts


def compared(ways: list[Way], found: list[list[EpisodeData]], contract: RobotContract) -> list[dict[str, Any]]:
    """Return a row for each way, held against the first; the same place in every list is the same start."""
    good = np.array([[e.outcome == Outcome.SUCCESS for e in episodes] for episodes in found])
    length = np.array([[e.steps * e.dt for e in episodes] for episodes in found])
    everyone = good.all(axis=0)
    rows = []
    for way, episodes, ok, seconds in zip(ways, found, good, length, strict=True):
        summary = summarise(episodes)
        change = ok.astype(float) - good[0]
        half = 1.96 * change.std(ddof=1) / np.sqrt(len(change))
        rows.append(
            asdict(way)
            | {
                "success": summary.success,
                "wilson_low": summary.wilson_low,
                "wilson_high": summary.wilson_high,
                "success_change": round(float(change.mean()), 4),
                "success_change_95": [round(float(change.mean() + s * half), 4) for s in (-1, 1)],
                "seconds": round(float(seconds[everyone].mean()), 3) if everyone.any() else None,
                "slower": round(float(seconds[everyone].mean() / length[0][everyone].mean() - 1), 4)
                if everyone.any()
                else None,
            }
            | border_figures(episodes, contract)
        )
    return rows


def load(checkpoint: str, contract: str, chunking: str) -> FlowRuntime:
    """Return the policy as it runs: one chunk sampled, in one thread."""
    torch.set_num_threads(1)
    return load_runtime(checkpoint, load_contract(contract), 1, chunking=Chunking(chunking))


def _say(stages: Stages, task: str, message: str) -> None:
    stages.show(task, 0, None, message.partition(": ")[2])

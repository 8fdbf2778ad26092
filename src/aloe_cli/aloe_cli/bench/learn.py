"""`./aloe bench learn`: every method from the same warm start, at equal interaction, over several seeds."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from queue import Queue
from typing import Annotated, Any, cast, get_args

import typer
import yaml

from aloe_cli import paths
from aloe_cli.bench.hardware import learned_on
from aloe_cli.bench.learning import plan, row, table
from aloe_cli.bench.learning.messages import shown
from aloe_cli.bench.learning.plan import Observe
from aloe_cli.command import VerbApp
from aloe_cli.overrides import parse
from aloe_cli.paths import ContractOption
from aloe_cli.progress import Stages
from aloe_core.checkpoint import git_revision
from aloe_core.errors import AloeError
from aloe_critic.hyper import make_hyper
from aloe_critic.learners import METHODS
from aloe_critic.precision import device_of
from aloe_sim import gl  # noqa: F401  chooses the renderer before mujoco is imported
from aloe_sim.collect import follow_parent, single_threaded
from aloe_sim.tasks import TASKS, make_task

app = VerbApp(help="Compare the learning methods on the simulator.")


@app.command()
def learn(
    tasks: Annotated[str, typer.Option(help="Tasks, comma-separated; task/level names a level.")] = "sorting",
    methods: Annotated[
        str,
        typer.Option(help="Methods, comma-separated; with a variant: aloe_select+priors (docs/benchmarks.md)."),
    ] = "hg_dagger,filtered_bc,aloe,aloe_select,aloe_takeover",
    humans: Annotated[str, typer.Option(help="Who takes over: skilled, average, clumsy.")] = "average",
    seeds: Annotated[int, typer.Option(help="Runs of each method.", min=1, max=9)] = 3,
    budget: Annotated[float, typer.Option(help="Robot time of a run's supervised rounds, s.", min=1)] = 300.0,
    successes: Annotated[
        int, typer.Option(help="Successful supervised episodes that also end a run's rounds; 0: none.", min=0)
    ] = 0,
    rounds: Annotated[int, typer.Option(help="Rounds of collecting and learning.", min=1)] = 3,
    demonstrations: Annotated[int, typer.Option(help="Demonstrations of the warm start.", min=1)] = 10,
    episodes: Annotated[int, typer.Option(help="Episodes of each measurement.", min=1)] = 50,
    last_episodes: Annotated[
        int, typer.Option(help="Episodes of the measurement after the last round; 0: as many as the others.", min=0)
    ] = 0,
    observe: Annotated[
        str, typer.Option(help="images, or objects: poses in place of cameras, which takes the encoder out of it.")
    ] = "images",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Hyperparameter.", metavar="KEY=VALUE")] = None,
    processes: Annotated[int, typer.Option(help="Runs side by side; 0: one a core.", min=0)] = 0,
    work: Annotated[Path, typer.Option(help="Where finished runs are kept, to go on from.", metavar="DIR")] = Path(
        "bench_out/learn"
    ),
    out: Annotated[Path, typer.Option(help="Result without ending: .json, .md and .png.", metavar="FILE")] = Path(
        "docs/results/learn"
    ),
    known: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A result of the same budget (.json), its runs counted as finished.", metavar="FILE"
        ),
    ] = None,
    only_finished: Annotated[
        bool, typer.Option("--only-finished", help="Run nothing: write the table of the runs that are finished.")
    ] = False,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Run what is missing in --work, then write the table of everything asked for."""
    robot = str(paths.contract(contract).resolve())
    overrides = parse(set_)
    device_of(make_hyper(overrides))
    levels = task_levels(tasks)
    asked = plan.rows(list(levels), levels, methods.split(","), humans.split(","), seeds, list(METHODS))
    if observe not in get_args(Observe):
        raise AloeError(f"observe = {observe!r}: expected images or objects.")
    limits = plan.Budget(
        demonstrations, rounds, budget, successes, episodes, last_episodes, cast(Observe, observe), overrides
    )
    _same_budget(work, limits, robot)
    if known:
        row.adopt(known, limits, robot, str(work))
    facts = {
        "hardware": learned_on(str(overrides.get("device", "cpu"))),
        "revision": git_revision() or "unknown",
        "contract": Path(robot).name,
        "budget": asdict(limits),
        "budget_text": _budget_text(limits),
    }
    if only_finished:
        found = [done for one in asked if (done := row.finished(one, str(work)))]
        if not found:
            raise AloeError(f"{work}: none of these runs is finished.")
    else:
        found = _run_all(asked, limits, robot, work, processes or len(os.sched_getaffinity(0)))
    table.write(found, facts, out)
    print(f"{out}.md, {out}.json, {out}.png: {len(found)} runs")
    return {"rows": found, "files": [f"{out}.{ending}" for ending in ("json", "md", "png")]} | facts


def _budget_text(limits: plan.Budget) -> str:
    ends = f"{limits.interaction:g} s of robot time"
    if limits.successes:
        ends += f" or {limits.successes} successes"
    last = f", {limits.evaluated_last} after the last round" if limits.evaluated_last else ""
    return (
        f"Each run: {limits.demonstrations} demonstrations, then {limits.rounds} rounds with {ends} in all; "
        f"measured on {limits.evaluated} episodes{last}; policies see {limits.observe}. "
        f"Hyperparameters: {limits.overrides or 'defaults'}."
    )


def _run_all(
    asked: list[plan.Row], limits: plan.Budget, robot: str, work: Path, processes: int
) -> list[dict[str, Any]]:
    """Return a result per row; what fails ends the benchmark, and the runs that finished are kept."""
    with single_threaded(), Stages() as stages, shown(stages) as messages:
        with ProcessPoolExecutor(min(processes, len(asked)), get_context("spawn"), follow_parent) as pool:
            try:
                first = {r.warm_key: r for r in asked}  # the methods share a warm start, so it comes before them
                job = functools.partial(_call, messages=messages, limits=limits, robot=robot, work=str(work.resolve()))
                for future in as_completed([pool.submit(job, row.warm_start, r) for r in first.values()]):
                    future.result()
                futures = {pool.submit(job, row.run, r): r for r in asked}
                for done, future in enumerate(as_completed(futures), 1):
                    result = future.result()
                    stages.show("runs", done, len(asked), f"{futures[future].key}: {result['final_success']:.2f}")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [future.result() for future in futures]


def _call(function: Any, one: plan.Row, *, messages: Queue[str], limits: plan.Budget, robot: str, work: str) -> Any:
    return function(one, limits, robot, work, messages.put)


def _same_budget(work: Path, limits: plan.Budget, robot: str) -> None:
    """Runs of another budget do not compare; AloeError if `work` holds such."""
    path = work / "budget.yaml"
    wanted = yaml.safe_dump(asdict(limits) | {"contract": Path(robot).name})
    if path.exists() and path.read_text() != wanted:
        raise AloeError(f"{path}: runs there had another budget or contract; choose another --work or delete it.")
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(wanted)


def task_levels(tasks: str) -> dict[str, str]:
    """`task,task/level` to level by task, the first if none is named.

    AloeError for what there is not, and for a task named twice.
    """
    levels: dict[str, str] = {}
    for word in tasks.split(","):
        task, _, level = word.partition("/")
        known = TASKS.get(task)
        level = level or (known.levels[0] if known else "")
        make_task(task, level, "train")  # says what is unknown
        if task in levels:
            raise AloeError(f"task = {task!r}: named twice; one level of a task at a time.")
        levels[task] = level
    return levels

"""`./aloe bench improve`: the last step of finished learning runs done again by every method, on the same data."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from queue import Queue
from typing import Annotated, Any, Literal, cast, get_args

import typer
import yaml

from aloe_cli import paths
from aloe_cli.bench.hardware import learned_on
from aloe_cli.bench.improve_table import write
from aloe_cli.bench.learning import row as learning
from aloe_cli.bench.learning.messages import shown
from aloe_cli.bench.learning.plan import Budget, Row, once
from aloe_cli.command import VerbApp
from aloe_cli.overrides import parse
from aloe_cli.paths import ContractOption
from aloe_cli.progress import Stages
from aloe_core.checkpoint import git_revision
from aloe_core.contract import load_contract
from aloe_core.episode.data import EpisodeData, Outcome
from aloe_core.errors import AloeError
from aloe_critic import variants
from aloe_critic.hyper import make_hyper
from aloe_critic.learners import method as find_method
from aloe_critic.precision import device_of
from aloe_critic.replay import Replay
from aloe_policy.runtime import load_models
from aloe_sim import gl  # noqa: F401  chooses the renderer before mujoco is imported
from aloe_sim.collect import Job, collect, follow_parent, single_threaded
from aloe_sim.station import Station

Critic = Literal["new", "kept"]

app = VerbApp(help="Compare methods on the same data, one step of learning each.")

SEED0 = 3_000_000  # of the measured episodes; no run trains or is measured on these


@app.command()
def improve(
    runs: Annotated[
        str, typer.Option(help="Finished runs of `bench learn`, comma-separated: TASK-LEVEL_HUMAN_METHOD_sSEED.")
    ],
    methods: Annotated[str, typer.Option(help="Methods, comma-separated, with variants as for `bench learn`.")],
    episodes: Annotated[int, typer.Option(help="Episodes of each measurement, the same starts.", min=2)] = 200,
    chunks: Annotated[
        str,
        typer.Option(help="Of how many chunks the best is to run, comma-separated; empty: 1, and the learner's own."),
    ] = "",
    critic: Annotated[
        str,
        typer.Option(help="Critics: new, so that all have learned for as long; or kept, the run's own where it fits."),
    ] = "new",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Hyperparameter, on top of the run's own.", metavar="KEY=VALUE")
    ] = None,
    processes: Annotated[int, typer.Option(help="Runs side by side; 0: one a core.", min=0)] = 0,
    learned: Annotated[Path, typer.Option(help="The --work of `bench learn`.", metavar="DIR")] = Path(
        "bench_out/learn"
    ),
    work: Annotated[Path, typer.Option(help="Where finished measurements are kept.", metavar="DIR")] = Path(
        "bench_out/improve"
    ),
    out: Annotated[Path, typer.Option(help="Result without ending: .json and .md.", metavar="FILE")] = Path(
        "docs/results/improve"
    ),
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Give every method what a run had before its last step: its policy, and all its episodes.

    Critics begin anew, for only methods whose critics are of the same shape could go on with the run's (`--critic
    kept`). The episodes are those of the same seeds again. A method that chooses among chunks is measured with one
    chunk too, so that what the critic adds at run time is told from what it taught the policy. Beside success stands
    how right the critic was about the chunks that ran, where there is one. What --work has of a method beyond `chunks`
    is told as well.
    """
    counts = _counts(chunks)
    robot = str(paths.contract(contract).resolve())
    budget = _budget(learned, Path(robot).name)
    overrides = parse(set_)
    device_of(make_hyper(budget.overrides | overrides))
    if critic not in get_args(Critic):
        raise AloeError(f"critic = {critic!r}: expected new or kept.")
    for name in once("method", methods.split(",")):
        find_method(variants.split(name)[0])
    rows = [_row(learned, key) for key in once("run", runs.split(","))]
    facts = {
        "hardware": learned_on(str((budget.overrides | overrides).get("device", "cpu"))),
        "revision": git_revision() or "unknown",
        "runs": runs.split(","),
        "learned": str(learned.resolve()),
        "episodes": episodes,
        "critic": critic,
        "contract": Path(robot).name,
        "overrides": overrides,
        "budget_overrides": budget.overrides,
    }
    _same_question(work, facts)
    found: list[dict[str, Any]] = []
    one = functools.partial(
        measure,
        methods=methods.split(","),
        episodes=episodes,
        counts=counts,
        budget=replace(budget, overrides=budget.overrides | overrides),
        critic=cast(Critic, critic),
        contract=robot,
    )
    workers = min(processes or len(os.sched_getaffinity(0)), len(rows))
    spawn = get_context("spawn")
    with single_threaded(), Stages() as stages, shown(stages) as messages:
        one = functools.partial(one, learned=str(learned.resolve()), work=str(work.resolve()), messages=messages)
        with ProcessPoolExecutor(workers, spawn, follow_parent) as pool:
            futures = [pool.submit(one, row) for row in rows]
            for done, future in enumerate(as_completed(futures), 1):
                found += future.result()
                stages.show("runs", done, len(rows), "")
    found = _common(sorted(found, key=lambda one: (one["seed"], methods.split(",").index(one["method"]))))
    del facts["learned"]  # a path of this machine, of no use to others
    write(found, facts, out)
    print(f"{out}.md, {out}.json: {len(found)} rows")
    return facts | {"rows": found}


def measure(
    row: Row,
    *,
    methods: list[str],
    episodes: int,
    counts: list[int],
    budget: Budget,
    critic: Critic,
    contract: str,
    learned: str,
    work: str,
    messages: Queue[str],
) -> list[dict[str, Any]]:
    """Return a result per method for one run; each measurement is kept in `work`/rows as soon as it is there."""
    found, replay = [], None

    def say(what: str) -> None:
        messages.put(f"{row.key}: {what}")

    run = Path(learned) / "runs" / row.key
    curve = json.loads((Path(learned) / "rows" / f"{row.key}.json").read_text())["curve"]
    line = [run / point["checkpoint"] for point in curve[:-1]]  # the step starts from the last; recap refits the first
    for name in methods:
        path = Path(work) / "rows" / f"{row.key}_{name}.json"
        root = Path(work) / "checkpoints" / f"{row.key}_{name}"
        result = json.loads(path.read_text()) if path.exists() else {}
        if not result.get("after") or not (root / result["after"]).is_dir():
            if replay is None:
                replay = _data(row, budget, contract, run, curve)
                say("episodes made again")
            notes: list[str] = []
            checkpoint = _step(name, replay, line, root, row, budget, critic, contract, notes, messages.put)
            result = {"run": row.key, "seed": row.seed, "method": name, "before": line[-1].name}
            result |= {"after": checkpoint.name, "revision": git_revision() or "unknown", "notes": notes}
            result |= {"good": {}, "critic": {}}
        checkpoint = root / result["after"]
        judged = load_models(checkpoint, load_contract(contract)).critic is not None
        own = {1, learning.candidates(checkpoint)}
        wanted = [str(n) for n in sorted(set(counts) or own if judged else {1})]
        for count in wanted:
            if count not in result["good"]:
                say(f"{name}, measured with {count} chunks" if judged else f"{name}, measured")
                driven = _drive(row, budget, contract, checkpoint, int(count), episodes)
                result["good"][count] = [int(e.outcome == Outcome.SUCCESS) for e in driven]
                result["critic"][count] = learning.calibration(checkpoint, contract, driven)
                _keep(result, path)
        found.append(result)
    return found


def _common(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the numbers of chunks, ascending, that every run of a method was measured with."""
    common: dict[str, set[str]] = {}
    for row in rows:
        common.setdefault(row["method"], set(row["good"])).intersection_update(row["good"])
    return [
        row | {key: {n: row[key][n] for n in sorted(common[row["method"]], key=int)} for key in ("good", "critic")}
        for row in rows
    ]


def _keep(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".partial")
    part.write_text(json.dumps(result))
    part.rename(path)


def _counts(chunks: str) -> list[int]:
    """`1,8` to numbers; AloeError for what is not."""
    words = chunks.split(",") if chunks else []
    if bad := [word for word in words if not word.strip().isdecimal() or int(word) < 1]:
        raise AloeError(f"chunks = {bad[0]!r}: expected numbers of 1 or more, comma-separated.")
    return [int(word) for word in words]


def _step(
    name: str,
    replay: Replay,
    line: list[Path],
    root: Path,
    row: Row,
    budget: Budget,
    critic: Critic,
    contract: str,
    notes: list[str],
    say: Callable[[str], None],
) -> Path:
    """Return what a method with its variants makes of the last checkpoint of a line, in a folder that has the line.

    What whoever reads the result should know of it is added to `notes`.
    """
    method, changed = variants.split(name)
    robot = load_contract(contract)
    changes = variants.overrides(changed, robot, make_hyper(budget.overrides).on(robot).stride)
    shutil.rmtree(root, ignore_errors=True)
    for checkpoint in line:
        shutil.copytree(checkpoint, root / checkpoint.name)
    return learning.improve(
        method,
        replay,
        root,
        root / line[-1].name,
        budget.overrides | changes,
        row,
        contract,
        say,
        new_critic=critic == "new",
        notes=notes,
    )


def _data(row: Row, budget: Budget, contract: str, run: Path, curve: list[dict[str, Any]]) -> Replay:
    """Return all episodes of the run, made again; AloeError if they are others than those it learned from."""
    replay = learning.new_replay(contract, budget)
    collected: list[EpisodeData] = learning.demonstrations(row, budget, contract)
    for episode in collected:
        replay.add(episode)
    station = Station(load_contract(contract), row.task, row.level, render=budget.observe == "images")
    spent, good = 0.0, 0
    for number, (point, after) in enumerate(itertools.pairwise(curve), 1):
        start = run / point["checkpoint"]
        for episode in learning.collect_round(row, budget, contract, station, start, number, good):
            replay.add(episode)
            spent += episode.steps * episode.dt
        good = after["successes"]
        if abs(spent - after["interaction_s"]) > 0.01:
            raise AloeError(
                f"{run}: round {number} made again takes {spent:.2f} s in all, and took {after['interaction_s']} s: "
                "expected the contract, tasks and persons of the revision it ran with."
            )
    station.close()
    return replay


def _drive(row: Row, budget: Budget, contract: str, checkpoint: Path, count: int, episodes: int) -> list[EpisodeData]:
    """Return the episodes of the policy alone, the best of `count` chunks at a time."""
    job = Job(
        load_contract(contract),
        row.task,
        row.level,
        make_policy=functools.partial(learning.load, str(checkpoint), contract, count),
        observe=budget.observe,
    )
    return collect(job, range(SEED0, SEED0 + episodes), processes=1)


def _row(learned: Path, key: str) -> Row:
    path = learned / "rows" / f"{key}.json"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        raise AloeError(f"run = {key!r}: not finished in {learned}: expected one of {there}.")
    data = json.loads(path.read_text())
    return Row(*(data[name] for name in ("task", "level", "method", "human", "seed")))


def _budget(learned: Path, ours: str) -> Budget:
    path = learned / "budget.yaml"
    try:
        data = yaml.safe_load(path.read_text())
        if (theirs := data.pop("contract", ours)) != ours:
            raise AloeError(f"{path}: its runs are of the contract {theirs}, not of {ours}.")
        return Budget(**data)
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise AloeError(f"{path}: not the budget of a `bench learn` ({' '.join(str(error).split())}).") from error


def _same_question(work: Path, facts: dict[str, Any]) -> None:
    """Measurements by other settings or of other runs do not compare; AloeError if `work` holds such."""
    path = work / "settings.yaml"
    names = "learned", "episodes", "critic", "contract", "overrides", "budget_overrides"
    wanted = yaml.safe_dump({name: facts[name] for name in names})
    if path.exists() and path.read_text() != wanted:
        raise AloeError(f"{path}: measurements there had other settings; choose another --work or delete it.")
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(wanted)

"""`./aloe bench critic`: how well critics rank what policies did that they never saw, and how fast they learn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from aloe_cli import paths
from aloe_cli.bench import critic_data
from aloe_cli.bench.ceiling import among_chunks, ceiling
from aloe_cli.bench.hardware import hardware
from aloe_cli.command import VerbApp
from aloe_cli.overrides import parse
from aloe_cli.paths import ContractOption
from aloe_cli.progress import Stages
from aloe_core.checkpoint import list_checkpoints
from aloe_core.contract import RobotContract, load_contract
from aloe_core.episode.data import EpisodeData
from aloe_core.errors import AloeError
from aloe_critic.evaluation import Scorer, evaluate
from aloe_critic.evaluation.scores import read_with_chunks
from aloe_critic.features import compute_features
from aloe_critic.hyper import Hyper, make_hyper
from aloe_critic.job import Job
from aloe_critic.learners import METHODS
from aloe_critic.replay import Replay
from aloe_critic.replay.bags import find_bags
from aloe_critic.td import ChunkTable, fit_critic, new_critic, sample_bank
from aloe_policy.runtime import Models, load_models, load_runtime
from aloe_sim import gl  # noqa: F401  chooses the renderer before mujoco is imported

FIGURES = ("spearman", "ece", "auc_50", "ranking")
SPEED_EPISODES = 5  # that updates are timed on
REPEATS = 3  # of which the fastest counts: what else runs on the machine only ever slows it down

Recorded = tuple[EpisodeData, dict[str, np.ndarray]]  # an episode, and what policies sent by chunk id

app = VerbApp(help="Measure critics on policies they never saw.")


@app.command()
def critic(
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints, in place of a small data set made here.", metavar="DIR")
    ] = None,
    bags: Annotated[
        list[Path] | None, typer.Option(help="Folder of bags for them; may be given again.", metavar="DIR")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Methods for the data set made here, comma-separated.")
    ] = "aloe_select,mc,td1",
    episodes: Annotated[int, typer.Option(help="Held-out episodes made here.", min=4)] = 20,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Hyperparameter of what is learned here.", metavar="KEY=VALUE")
    ] = None,
    updates: Annotated[int, typer.Option(help="Critic updates that are timed, thrice.", min=1)] = 100,
    exact: Annotated[
        int,
        typer.Option(help="Continuations from each state of the data set made here that say what it was worth.", min=0),
    ] = 0,
    chunks: Annotated[
        int, typer.Option(help="With --exact: chunks sampled at each state, of which each is gone on from.", min=0)
    ] = 0,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Spearman, calibration error, AUC half-way and action ranking per method, and critic updates a second.

    A bag counts for a critic if it was driven by no policy from which that critic's checkpoint descends: of those the
    data were in its training. Over several checkpoints of a method, figures are means over critics. With --exact the
    `ceiling` says how well the exact values of the policy that drove agree with what happened: no critic can do better.
    With --chunks too, `among_chunks` says how much the chunks sampled at one state differ in worth, and how well
    critics tell them apart.
    """
    robot = load_contract(paths.contract(contract))
    if chunks and exact < 2:
        raise AloeError("bench critic: --chunks needs --exact of 2 or more, to tell chunks from chance.")
    if (checkpoints is None) != (not bags):
        raise AloeError("bench critic: give --checkpoints and --bags together, or neither to make a data set here.")
    with Stages() as stages:
        say = lambda what, done, of: stages.show(what, done, of)  # noqa: E731
        if checkpoints is not None:
            return _measure(checkpoints, _read(bags or [], robot, say), robot, updates, say)
        names = methods.split(",")
        unknown = [name for name in names if name not in METHODS]
        if unknown:
            raise AloeError(f"methods: no method {unknown[0]!r}: expected some of {', '.join(METHODS)}.")
        overrides = parse(set_)
        make_hyper(overrides)  # says what is unknown, before anything runs
        plan = critic_data.Plan(unseen=episodes, overrides=overrides)
        with tempfile.TemporaryDirectory(prefix="aloe-bench-") as work:
            alone, helped, driver = critic_data.make(plan, names, robot, Path(work), say)
            # Nobody recorded what was replaced: fresh chunks stand for it.
            held_out: list[Recorded] = [(episode, {}) for episode in alone + helped]
            found = _measure(Path(work), held_out, robot, updates, say)
            if exact:
                judges = {name: load_runtime(found["critics"][name][0]["path"], robot) for name in names}
                scale = Scorer(load_models(Path(found["critics"][names[0]][0]["path"]), robot), robot).scale
                policy = load_runtime(driver, robot)
                found["ceiling"] = ceiling(alone, policy, robot, scale, tries=exact, say=say)
                if chunks:
                    found["among_chunks"] = among_chunks(
                        alone, policy, judges, robot, scale, chunks=chunks, tries=exact, say=say
                    )
            return found


def _measure(
    folder: Path, episodes: Sequence[Recorded], contract: RobotContract, updates: int, say: critic_data.Say
) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {}
    newest: Models | None = None
    for path, method, ancestors in _critics(folder):
        models = load_models(path, contract)
        unseen = [(e, c) for e, c in episodes if e.policy_versions and not ancestors & set(e.policy_versions)]
        if models.critic is None or not unseen:
            continue
        scorer = Scorer(models, contract)
        scores = []
        for number, (episode, chunks) in enumerate(unseen):
            scores.append(scorer.score(episode, chunks))
            say(f"scoring by {path.name}", number + 1, len(unseen))
        report = evaluate(scores, scorer.scale, critic_version=path.name)
        row = {name: report["all" if name == "ranking" else "autonomous"][name] for name in FIGURES}
        critic = {"checkpoint": path.name, "path": str(path), "episodes": len(unseen), "figures": row}
        found.setdefault(method, []).append(critic)
        newest = models
    if newest is None:
        raise AloeError(f"{folder}: no checkpoint with a critic for which one of {len(episodes)} episodes is unseen.")
    say("critic updates", 0, updates)
    speed = updates_per_s(newest, [episode for episode, _ in episodes[:SPEED_EPISODES]], contract, updates)
    say("critic updates", updates, updates)
    rows = {method: _mean(critics) for method, critics in found.items()}
    _print(rows, speed)
    return rows | {"updates_per_s": speed, "hardware": hardware(), "critics": found}


def updates_per_s(models: Models, episodes: Sequence[EpisodeData], contract: RobotContract, updates: int) -> float:
    """Return TD updates a second of a new critic of the default shape on these episodes, on one core."""
    hyper: Hyper = make_hyper({"threads": 1}).on(contract)
    torch.set_num_threads(1)
    replay = Replay(contract, hyper.stride, models.policy.config.text_buckets)
    for episode in episodes:
        replay.add(episode)
    scale = {"max_length": 400.0, "failure_cost": 200.0}  # whatever: the time of an update does not depend on it
    windows = replay.windows(gamma=hyper.gamma, **scale)
    table = ChunkTable(windows, compute_features(models.policy, replay), replay.state(), **scale)
    network = new_critic(models.policy, hyper, table)
    job = Job(contract, replay, hyper, lambda *_: None)
    bank = sample_bank(models.policy, network, table, hyper, hyper.bank)
    fit_critic(network, models.policy, table, bank, job, min(10, updates))  # what the first steps set up
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        fit_critic(network, models.policy, table, bank, job, updates)
        taken.append(time.perf_counter() - start)
    return round(updates / min(taken), 1)


def _read(bags: list[Path], contract: RobotContract, say: critic_data.Say) -> list[Recorded]:
    sources = find_bags(bags)
    episodes = []
    for number, source in enumerate(sources):
        with source.local() as directory:
            episodes.append(read_with_chunks(directory, contract))
        say("reading bags", number + 1, len(sources))
    return episodes


def _critics(folder: Path) -> list[tuple[Path, str, set[str]]]:
    """Return path, method and the versions that each sound checkpoint descends from."""
    stored = [(s.path, s.manifest) for s in list_checkpoints(folder) if s.manifest is not None]
    parents = {manifest.version: manifest.parent for _, manifest in stored}
    rows = []
    for path, manifest in stored:
        ancestors: set[str] = set()
        parent = manifest.parent
        while parent and parent not in ancestors:
            ancestors.add(parent)
            parent = parents.get(parent, "")
        rows.append((path, manifest.method, ancestors))
    return rows


def _mean(critics: list[dict[str, Any]]) -> dict[str, float | None]:
    row: dict[str, float | None] = {}
    for name in FIGURES:
        values = [c["figures"][name]["value"] for c in critics if c["figures"][name]["value"] is not None]
        row[name] = sum(values) / len(values) if values else None
    return row


def _print(rows: dict[str, dict[str, float | None]], speed: float) -> None:
    table = Table("method", *FIGURES, box=None, pad_edge=False)
    for method, row in rows.items():
        table.add_row(method, *("-" if row[name] is None else f"{row[name]:.2f}" for name in FIGURES))
    console = Console()
    console.print(table)
    console.print(f"{speed:g} critic updates a second, one core of {hardware()}.", highlight=False)

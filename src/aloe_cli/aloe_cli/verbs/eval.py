"""`./aloe eval`: success rate on the simulator, in process, on seeds of your choice."""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from aloe_cli import paths
from aloe_cli.command import VerbApp
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_core.pacing import check_delay
from aloe_sim import gl  # noqa: F401  chooses the renderer before mujoco is imported
from aloe_sim.baselines import PosturePolicy, RandomPolicy, ZeroPolicy
from aloe_sim.borders import border_figures
from aloe_sim.collect import Evaluation, Job, MakePolicy, collect, summarise
from aloe_sim.disturb import load_disturbances
from aloe_sim.human import HumanConfig
from aloe_sim.skill import preset
from aloe_sim.station import Station
from aloe_sim.tasks import first_level

app = VerbApp(help="Measure the success rate of a policy on the simulator.")

BASELINES = {kind.version: kind for kind in (RandomPolicy, PosturePolicy, ZeroPolicy)}
POLICIES = ("checkpoint", "expert", *BASELINES)


@app.command()
def eval_(
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint, or a folder whose LATEST is meant.", metavar="DIR")
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="checkpoint; expert: the scripted person; random: another action every tick; "
            "postures: another one with every chunk; zero: joints at 0."
        ),
    ] = "checkpoint",
    task: Annotated[str, typer.Option(help="Task of the simulator.")] = "sorting",
    level: Annotated[str, typer.Option(help="Difficulty; default: the task's first.")] = "",
    variant: Annotated[str, typer.Option(help="Variant of objects and scene.")] = "train",
    episodes: Annotated[int, typer.Option(help="Episodes, one a seed, at least 1.")] = 25,
    seed0: Annotated[int, typer.Option(help="First seed; the demo trains on seeds below 1000000.")] = 1_000_000,
    skill: Annotated[str, typer.Option(help="Of the expert: perfect, good (default of a person), mediocre, bad.")] = "",
    randomisation: Annotated[str, typer.Option(help="Of look and friction: none, low, high.")] = "none",
    disturbances: Annotated[
        Path | None, typer.Option(help="Schedule of what goes wrong (YAML); default: nothing does.", metavar="FILE")
    ] = None,
    candidates: Annotated[int, typer.Option(help="Chunks sampled; the critic chooses one, 1 to 256.")] = 8,
    delay: Annotated[
        int, typer.Option(help="Control steps from an observation to its chunk, at most half the horizon.")
    ] = 0,
    chunking: Annotated[
        str, typer.Option(help="How chunks of a checkpoint follow each other: receding, ensemble, rtc, prefix.")
    ] = "receding",
    processes: Annotated[int, typer.Option(help="Parallel episodes; 0 is one per core.")] = 0,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Run EPISODES episodes from SEED0 on and print the success rate with its 95 % interval."""
    _check("episodes", episodes, 1)
    _check("seed0", seed0, 0)
    _check("candidates", candidates, 1, 256)
    _check("processes", processes, 0)
    path = paths.contract(contract)
    robot = load_contract(path)
    level = level or first_level(task)
    schedule = load_disturbances(disturbances) if disturbances else None
    # What is wrong says so here, not in a worker.
    Station(robot, task, level, variant, render=False, randomisation=randomisation, disturbances=schedule)
    check_delay(robot.chunk.horizon, delay)
    if policy == "expert" and delay:
        raise AloeError(f"delay = {delay}: a person has none; expected 0 with --policy expert.")
    if policy != "checkpoint" and chunking != "receding":
        raise AloeError(f"chunking = {chunking!r}: expected receding, for all but --policy checkpoint.")
    make_policy, observe = _make_policy(policy, checkpoint, path, robot, candidates, chunking)
    if make_policy is None:
        skill = skill or "perfect"
    elif skill:
        raise AloeError(f"skill = {skill!r}: only --policy expert has one.")
    job = Job(
        contract=robot,
        task=task,
        level=level,
        variant=variant,
        supervision="watch" if make_policy else "demonstrate",
        make_policy=make_policy,
        human=None if make_policy else HumanConfig(demonstration=preset(skill)),
        record=False,
        randomisation=randomisation,
        disturbances=schedule,
        observe=observe,
        delay=delay,
    )
    start = time.monotonic()
    good = 0
    with progress(f"{task}, {level}", episodes) as bar:

        def count(_done: int, _total: int, episode: Any) -> None:
            nonlocal good
            good += episode.outcome.name == "SUCCESS"
            bar.advance(note=f"{good} succeeded")

        found = collect(job, range(seed0, seed0 + episodes), processes, count)
    result = summarise(found)
    Console().print(
        f"{result.successes} of {result.episodes} succeeded: {result.success:.2f} "
        f"(95 % interval {result.wilson_low:.2f} to {result.wilson_high:.2f}); "
        f"an episode took {result.mean_length:.1f} s."
    )
    return {
        "policy": str(checkpoint) if policy == "checkpoint" else policy,
        "skill": skill or None,
        "contract": robot.name,
        "task": task,
        "level": level,
        "variant": variant,
        "randomisation": randomisation,
        "delay": delay,
        "chunking": chunking,
        **_figures(result),
        **border_figures(found, robot),
        "seeds": {str(episode.seed): episode.outcome.name.lower() for episode in found},
        "wall_s": round(time.monotonic() - start, 1),
    }


def _check(name: str, value: int, low: int, high: int | None = None) -> None:
    """AloeError for a value out of its range: the parser would say so in a box of five lines."""
    if value < low or (high is not None and value > high):
        expected = f"at least {low}" if high is None else f"{low} to {high}"
        raise AloeError(f"{name} = {value}: expected {expected}.")


def _make_policy(
    policy: str, checkpoint: Path | None, contract: Path, robot: RobotContract, candidates: int, chunking: str
) -> tuple[MakePolicy | None, Literal["images", "objects"]]:
    """Return what makes the policy in a worker, None for the expert, who is a person; and what the policy looks at."""
    if policy not in POLICIES:
        raise AloeError(f"policy = {policy!r}: expected one of {', '.join(POLICIES)}.")
    if policy == "expert":
        return None, "images"
    if policy in BASELINES:
        return functools.partial(BASELINES[policy], robot), "images"
    make = functools.partial(_load, _checkpoint(checkpoint), contract, candidates, chunking)
    runtime = make()  # what is wrong with it says so here
    return make, "objects" if runtime.policy.config.objects else "images"


def _figures(result: Evaluation) -> dict[str, Any]:
    return {
        "success": result.success,
        "wilson_low": result.wilson_low,
        "wilson_high": result.wilson_high,
        "successes": result.successes,
        "episodes": result.episodes,
        "mean_length_s": result.mean_length,
        "mean_success_length_s": result.mean_success_length if math.isfinite(result.mean_success_length) else None,
    }


def _checkpoint(path: Path | None) -> Path:
    from aloe_core.checkpoint import MANIFEST, latest

    if path is None:
        raise AloeError("eval: name a policy with --checkpoint DIR, or take --policy expert.")
    if not path.is_dir():
        raise AloeError(f"{path}: no such checkpoint.")
    return path if (path / MANIFEST).exists() else latest(path) or path


def _load(directory: Path, contract: Path, candidates: int, chunking: str) -> Any:
    """Build the policy; workers import this by name."""
    from aloe_policy.chunking import Chunking
    from aloe_policy.runtime import load_runtime

    return load_runtime(directory, load_contract(contract), candidates, chunking=Chunking(chunking))

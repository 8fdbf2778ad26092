"""`./aloe eval`: success rate on the simulator, in process, on seeds of your choice."""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from aloe_cli import paths
from aloe_cli.command import VerbApp
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_sim import gl  # noqa: F401  chooses the renderer before mujoco is imported
from aloe_sim.collect import Job, collect, summarise
from aloe_sim.tasks import make_task

app = VerbApp(help="Measure the success rate of a policy on the simulator.")


@app.command()
def eval_(
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint, or a folder whose LATEST is meant.", metavar="DIR")
    ] = None,
    policy: Annotated[str, typer.Option(help="checkpoint, or expert: the scripted person.")] = "checkpoint",
    task: Annotated[str, typer.Option(help="Task of the simulator.")] = "sorting",
    level: Annotated[str, typer.Option(help="Difficulty of the task.")] = "easy",
    variant: Annotated[str, typer.Option(help="Variant of objects and scene.")] = "train",
    episodes: Annotated[int, typer.Option(help="Episodes, one a seed.", min=1)] = 25,
    seed0: Annotated[int, typer.Option(help="First seed; the demo trains on seeds below 1000000.", min=0)] = 1_000_000,
    candidates: Annotated[int, typer.Option(help="Chunks sampled; the critic chooses one.", min=1, max=256)] = 8,
    processes: Annotated[int, typer.Option(help="Parallel episodes; 0 is one per core.", min=0)] = 0,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Run EPISODES episodes from SEED0 on and print the success rate with its 95 % interval."""
    path = paths.contract(contract)
    robot = load_contract(path)
    make_task(task, level, variant)  # what is unknown says so here, not in a worker
    make_policy = None
    if policy == "checkpoint":
        make_policy = functools.partial(_load, _checkpoint(checkpoint), path, candidates)
        make_policy()  # likewise
    elif policy != "expert":
        raise AloeError(f"policy = {policy!r}: expected checkpoint or expert.")
    job = Job(
        contract=robot,
        task=task,
        level=level,
        variant=variant,
        supervision="watch" if make_policy else "demonstrate",
        make_policy=make_policy,
        record=False,
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
        f"(95 % interval {result.low:.2f} to {result.high:.2f}); an episode took {result.mean_length:.1f} s."
    )
    return {
        "policy": str(checkpoint) if make_policy else "expert",
        "task": task,
        "level": level,
        "variant": variant,
        "success": result.success,
        "low": result.low,
        "high": result.high,
        "successes": result.successes,
        "episodes": result.episodes,
        "mean_length_s": result.mean_length,
        "mean_success_length_s": result.mean_success_length if math.isfinite(result.mean_success_length) else None,
        "seeds": {str(episode.seed): episode.outcome.name.lower() for episode in found},
        "wall_s": round(time.monotonic() - start, 1),
    }


def _checkpoint(path: Path | None) -> Path:
    from aloe_core.checkpoint import MANIFEST, latest

    if path is None:
        raise AloeError("eval: name a policy with --checkpoint DIR, or take --policy expert.")
    if not path.is_dir():
        raise AloeError(f"{path}: no such checkpoint.")
    return path if (path / MANIFEST).exists() else latest(path) or path


def _load(directory: Path, contract: Path, candidates: int) -> Any:
    """Build the policy; workers import this by name."""
    from aloe_policy.runtime import load_runtime

    return load_runtime(directory, load_contract(contract), candidates)

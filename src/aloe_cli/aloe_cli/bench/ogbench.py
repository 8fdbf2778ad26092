"""`./aloe bench ogbench`: the chunk critics on a benchmark of others, beside the figures of the Q-chunking paper."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

from aloe_cli.bench.hardware import hardware
from aloe_cli.bench.ogbench_run import METHODS, Budget, Row, run
from aloe_cli.bench.ogbench_table import write
from aloe_cli.command import VerbApp
from aloe_cli.progress import Stages
from aloe_core.checkpoint import git_revision
from aloe_core.errors import AloeError

_TASK = re.compile(r"cube-(single|double|triple)(?:-task([1-5]))?")
_DEFAULT_TASK = 2  # OGBench's own choice for its cubes

app = VerbApp(help="Compare with the Q-chunking paper on OGBench's cubes, offline, from states.")


@app.command()
def ogbench(
    tasks: Annotated[
        str,
        typer.Option(help="cube-single, -double, -triple, comma-separated; -task1 to -task5 names one (default 2)."),
    ] = "cube-double-task1,cube-double,cube-triple",
    methods: Annotated[str, typer.Option(help=f"Of {', '.join(METHODS)}.")] = "bc,qc,aloe,nstep",
    seeds: Annotated[int, typer.Option(help="Runs of each method.", min=1)] = 2,
    plays: Annotated[int, typer.Option(help="Play episodes of 1,001 steps.", min=1)] = 100,
    updates: Annotated[int, typer.Option(help="Updates of the policy and of the critic, each.", min=2)] = 5000,
    episodes: Annotated[int, typer.Option(help="Episodes of each measurement.", min=1)] = 20,
    networks: Annotated[
        str, typer.Option(help="small: 3 layers of 256, 8 chunks a state; paper: 4 of 512, 32 chunks, for a GPU.")
    ] = "small",
    device: Annotated[str, typer.Option(help="cpu or cuda, where each update is one CUDA graph.")] = "cpu",
    fit_only: Annotated[
        bool,
        typer.Option("--fit-only", help="Leave fitted networks in --work and measure nothing; needs no simulator."),
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores.", min=0)] = 1,
    work: Annotated[Path, typer.Option(help="Where data and finished runs are kept.", metavar="DIR")] = Path(
        "bench_out/ogbench"
    ),
    out: Annotated[Path, typer.Option(help="Result without ending: .json, .md and .png.", metavar="FILE")] = Path(
        "docs/results/ogbench"
    ),
) -> dict[str, Any]:
    """Run what is missing in --work, writing the table after every run; stopped, it goes on where it was."""
    asked = _rows(tasks, methods, seeds)
    if not fit_only and importlib.util.find_spec("ogbench") is None:
        raise AloeError("OGBench is not installed; run `make setup` with ALOE_PROFILE=full.")
    if networks not in ("small", "paper"):
        raise AloeError(f"No networks {networks!r}: expected small or paper.")
    if device not in ("cpu", "cuda"):
        raise AloeError(f"No device {device!r}: expected cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise AloeError("There is no CUDA device here, or this PyTorch was built without it; use --device cpu.")
    budget = Budget(plays, updates, episodes, "paper" if networks == "paper" else "small")
    _same_budget(work, budget)
    facts = {
        "hardware": f"{hardware()}, {threads or 'all'} used",
        "revision": git_revision() or "unknown",
        "budget": asdict(budget),
    }
    found: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with Stages() as stages:
            for done, row in enumerate(asked, 1):

                def tell(what: str, n: int, of: int, key: str = row.key) -> None:
                    stages.show(f"{key}: {what.split(',')[0]}", n, of, what)

                result = run(row, budget, work, tell, device=device, fit_only=fit_only)
                if result is None:
                    stages.show("runs", done, len(asked), f"{row.key}: fitted")
                    continue
                found.append(result)
                write(found, facts, out)
                stages.show("runs", done, len(asked), f"{row.key}: {result['success']:.2f}")
    finally:
        torch.set_num_threads(before)
    if fit_only:
        print(f"{work / 'fitted'}: {len(asked) - len(found)} runs fitted, to be measured without --fit-only")
        return facts | {"rows": found, "files": []}
    files = [str(out.with_suffix(ending)) for ending in (".json", ".md", ".png")]
    print(f"{', '.join(files)}: {len(found)} runs")
    return facts | {"rows": found, "files": files}


def _rows(tasks: str, methods: str, seeds: int) -> list[Row]:
    """Every run asked for, seed by seed, so that a stopped benchmark has compared all methods on the first seeds."""
    places = []
    for word in tasks.split(","):
        match = _TASK.fullmatch(word.strip())
        if match is None:
            raise AloeError(
                f"No task {word!r}: expected cube-single, cube-double or cube-triple, with -task1 to -task5 or without."
            )
        places.append((match[1], int(match[2] or _DEFAULT_TASK)))
    for method in methods.split(","):
        if method not in METHODS:
            raise AloeError(f"No method {method!r}: expected some of {', '.join(METHODS)}.")
    return [
        Row(cubes, task, method, seed)
        for seed in range(seeds)
        for cubes, task in places
        for method in methods.split(",")
    ]


def _same_budget(work: Path, budget: Budget) -> None:
    """Runs of another budget do not compare; AloeError if `work` holds such."""
    path, wanted = work / "budget.yaml", yaml.safe_dump(asdict(budget))
    if path.exists() and path.read_text() != wanted:
        raise AloeError(f"{path}: runs there had another budget; choose another --work or delete it.")
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(wanted)

"""`./aloe bench updates`: how fast the chunk critic and the policy learn, on flat states of a small task."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
import typer
from rich.console import Console
from torch import Tensor

from aloe_cli.bench import updates_cases
from aloe_cli.bench.hardware import hardware
from aloe_cli.bench.updates_reference import PlainLearner
from aloe_cli.bench.updates_turns import in_turn
from aloe_cli.command import VerbApp
from aloe_cli.progress import Stages, progress
from aloe_core.checkpoint import git_revision
from aloe_core.errors import AloeError
from aloe_critic.flat.config import FlatConfig
from aloe_critic.flat.learner import FlatLearner
from aloe_critic.hyper import make_hyper
from aloe_critic.precision import autocast

OBS, ACTION, H = 46, 5, 5  # cubes of OGBench: state, one arm, chunks of five steps
WARM_UP = 20
BLOCK = 50  # updates timed together
REFERENCE_SHARE = 10  # the loop does a tenth of the updates: it is there for its rate

_JAX = Path(__file__).with_name("updates_jax.py")

app = VerbApp(help="Measure critic and actor updates a second.")


class Learner(Protocol):
    """What is measured."""

    def update_critic(self) -> Tensor: ...
    def update_actor(self) -> Tensor: ...


@app.command()
def updates(
    steps: Annotated[int, typer.Option(help="Critic updates, and as many actor updates.", min=1)] = 4000,
    heads: Annotated[int, typer.Option(help="Heads of the critic, each 3 layers of 256.", min=1)] = 5,
    flow_steps: Annotated[int, typer.Option(help="Euler steps of the fresh chunk in each target.", min=1)] = 5,
    batch: Annotated[int, typer.Option(help="Transitions an update.", min=1)] = 256,
    actor: Annotated[str, typer.Option(help="Policy: mlp, 3 layers of 256; blocks, the head of the image policy.")] = (
        "mlp"
    ),
    bank: Annotated[
        int, typer.Option(help="Chunks a state drawn before the critic's updates, as the trainer does; 0: at each.")
    ] = 0,
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores.", min=0)] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16.")] = "auto",
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the losses (a minute or more).")] = False,
    reference: Annotated[bool, typer.Option(help="Time a plain loop over heads in one thread as well.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda with --case.")] = "cpu",
    case: Annotated[
        str | None, typer.Option(help=f"Shapes of Q-chunking: all or of {', '.join(updates_cases.CASES)}.")
    ] = None,
    jax: Annotated[
        Path | None,
        typer.Option(help="Clone of github.com/ColinQiyangLi/qc, to time beside --case on a GPU.", metavar="DIR"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Result of --case on a GPU.", metavar="FILE")] = Path(
        "docs/results/updates_gpu.json"
    ),
) -> dict[str, Any]:
    """Time the updates of ALOE: a fresh chunk in every TD target, all heads in one product, weighted flow matching."""
    where = _device(device, case)
    bfloat16 = autocast(make_hyper({"precision": precision, "device": device}))._enabled
    if jax is not None and where.type != "cuda":
        raise AloeError("--jax needs --device cuda: the JAX code is compared with on a GPU alone.")
    if case is not None:
        rows = _cases(case, where, steps, batch, precision, compile_, jax)
        return _shown(rows, where, {"steps": steps, "batch": batch, "compiled": compile_}, out)
    if actor not in ("mlp", "blocks"):
        raise AloeError(f"No actor {actor!r}: expected mlp or blocks.")
    config = FlatConfig(heads=heads, flow_steps=flow_steps, batch=batch, actor=actor)
    data = updates_cases.random_transitions(OBS, H * ACTION, where)
    with _threads(threads) as used:
        learner = FlatLearner(data, config, bfloat16="all" if bfloat16 else "none", compiled=compile_)
        result = measure(learner, steps, before=(lambda: _fill(learner, bank)) if bank else None)
    console = Console()
    console.print(_sentence(f"{used} threads", result, steps))
    if reference:
        fewer = max(1, steps // REFERENCE_SHARE)
        with _threads(1):
            plain = measure(PlainLearner(data, config), fewer)
        for name in ("wall_s", "median_s", "cpu_s"):
            result[f"reference_{name}"] = plain[name] * steps / fewer
        console.print(_sentence("a loop over heads, 1 thread", plain, fewer))
    return result | {
        "steps": steps,
        "heads": heads,
        "batch": batch,
        "flow_steps": flow_steps,
        "actor": actor,
        "bank": bank,
        "threads": used,
        "bfloat16": bfloat16,
        "compiled": compile_,
        "hardware": hardware(),
    }


def measure(learner: Learner, steps: int, before: Callable[[], None] | None = None) -> dict[str, float]:
    """Return what `steps` updates of each kind took, s: on the clock, had every block taken as long as the median, and
    of all cores together, which other processes disturb least.

    `before` is done before the critic's updates, on the clock. Warming up (and compiling) is not on it.
    """
    updates = {"critic": learner.update_critic, "actor": learner.update_actor}
    wall = median = cpu = 0.0
    rates: dict[str, float] = {}
    for name, update in updates.items():
        for _ in range(min(WARM_UP, steps)):
            update()
        start, busy = time.perf_counter(), time.process_time()
        if before is not None and name == "critic":
            before()
        extra = time.perf_counter() - start
        blocks, last = _blocks(name, update, steps)
        if not torch.isfinite(last):
            raise AloeError(f"The {name} diverged: its last loss is {last.item()}.")
        took = extra + sum(seconds for _, seconds in blocks)
        wall += took
        cpu += time.process_time() - busy
        median += extra + steps * statistics.median(seconds / n for n, seconds in blocks)
        rates[f"{name}_updates_per_s"] = steps / took
    return {"wall_s": wall, "median_s": median, "cpu_s": cpu} | rates


def _blocks(name: str, update: Callable[[], Tensor], steps: int) -> tuple[list[tuple[int, float]], Tensor]:
    blocks, left = [], steps
    with progress(name, steps) as bar:
        while left:
            n = min(BLOCK, left)
            start = time.perf_counter()
            for _ in range(n):
                last = update()
            blocks.append((n, time.perf_counter() - start))
            bar.advance(n)
            left -= n
    return blocks, last


def _fill(learner: FlatLearner, bank: int) -> None:
    learner.bank = learner.make_bank(bank)


def _cases(
    names: str, device: torch.device, steps: int, batch: int, precision: str, compiled: bool, jax: Path | None
) -> Iterator[dict[str, Any]]:
    """Rows of all cases with 2 and 10 heads; on a GPU each of a process, so that they compile at the same time."""
    wanted = [precision == "bfloat16"] if precision != "auto" else [False, True] if device.type == "cuda" else [False]
    asked = [
        updates_cases.Asked(name, heads, batch, device.type, bfloat16, compiled)
        for name in updates_cases.chosen(names)
        for heads in (2, 10)
        for bfloat16 in wanted
    ]
    if device.type != "cuda":
        yield from (updates_cases.prepare_case(one)(steps) for one in asked)
        return
    commands, shapes = [], []
    for name, heads in itertools.product(updates_cases.chosen(names), (2, 10)) if jax is not None else ():
        case = updates_cases.CASES[name]
        shape = {"states": case.states, "actions": case.actions, "horizon": case.horizon}
        shape |= {"distilled": case.distilled, "heads": heads, "batch": batch}
        shapes.append((name, heads))
        commands.append([sys.executable, str(_JAX), str(jax), json.dumps(shape)])
    commands += [[sys.executable, "-m", "aloe_cli.bench.updates_cases", json.dumps(asdict(one))] for one in asked]
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    with Stages() as stages:
        found = in_turn(commands, str(steps), environment, lambda what, n: stages.show(what, n, len(commands)))
        theirs = dict(zip(shapes, itertools.islice(found, len(shapes)), strict=True))
        for row in found:
            if beside := theirs.get((row["case"], row["heads"])):
                row |= {name: beside[name] for name in ("jax_scan_per_s", "jax_update_per_s")}
                row["jax"] = f"{row['heads']} heads, same run, jax {beside['jax']}"
            yield row


def _shown(found: Iterator[dict[str, Any]], device: torch.device, facts: dict[str, Any], out: Path) -> dict[str, Any]:
    """Print every row, and on a GPU write those there are, so that what was measured before a failure is kept."""
    console, rows, facts = Console(), [], facts | {"revision": git_revision() or "unknown"}
    for row in found:
        rows.append(row)
        console.print(
            f"{row['case']}, {row['heads']} heads, {row['precision']}: {row['updates_per_s']:.0f} a second; "
            f"JAX {row['jax_scan_per_s']:.0f} ({row['jax']})."
        )
        if device.type == "cuda":
            updates_cases.write(rows, facts, out)
    return facts | {"rows": rows}


def _device(name: str, case: str | None) -> torch.device:
    if name not in ("cpu", "cuda"):
        raise AloeError(f"No device {name!r}: expected cpu or cuda.")
    if name == "cuda" and case is None:
        raise AloeError("--device cuda needs --case, the shapes that there are figures to compare with.")
    if name == "cuda" and not torch.cuda.is_available():
        raise AloeError("There is no CUDA device here, or this PyTorch was built without it; use --device cpu.")
    return torch.device(name)


@contextmanager
def _threads(wanted: int) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _sentence(how: str, result: dict[str, float], steps: int) -> str:
    critic, actor = result["critic_updates_per_s"], result["actor_updates_per_s"]
    return (
        f"{how}: {steps} updates each in {result['wall_s']:.1f} s ({result['median_s']:.1f} s at the median, "
        f"{result['cpu_s']:.1f} s of all cores); "
        f"{critic:.0f} critic, {actor:.0f} actor a second."
    )

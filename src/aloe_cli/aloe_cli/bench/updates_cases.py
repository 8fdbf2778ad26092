"""The shapes of the Q-chunking JAX code, on a GPU: a whole update as one CUDA graph, beside what JAX does there.

Run as a module with a case as JSON it is the process that `in_turn` speaks to: it prints `ready` once compiled and
captured, waits for a line, measures, and prints its row as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aloe_cli.bench.hardware import hardware
from aloe_core.errors import AloeError
from aloe_critic.flat.config import FlatConfig, qc
from aloe_critic.flat.data import Transitions
from aloe_critic.flat.learner import FlatLearner

ROWS = 10_000  # transitions in memory
RECORDED = "2 heads, an H100, recorded earlier"  # where the figures of CASES come from


@dataclass(frozen=True)
class Case:
    """Shapes of a task, and how the JAX code did there on an H100: one update a call, and 50 in one scan."""

    states: int
    actions: int
    horizon: int
    distilled: bool
    jax_update_per_s: float
    jax_scan_per_s: float

    def config(self, heads: int, batch: int) -> FlatConfig:
        """Return the JAX code's defaults: 4 layers of 512, 10 flow steps."""
        common = {"heads": heads, "batch": batch, "width": 512, "layers": 4, "flow_steps": 10}
        return qc(**common, samples=1, pick="mean", policy="distilled") if self.distilled else qc(**common)


CASES = {
    "obs46-act5-h5-best32": Case(46, 5, 5, False, 440, 462),
    "obs46-act5-h5-distilled": Case(46, 5, 5, True, 418, 935),
    "obs40-act14-h25-best32": Case(40, 14, 25, False, 304, 344),
    "obs40-act14-h25-distilled": Case(40, 14, 25, True, 422, 853),
}


def chosen(names: str) -> dict[str, Case]:
    """Return the cases named, or all of them; AloeError if one does not exist."""
    wanted = list(CASES) if names == "all" else names.split(",")
    for name in wanted:
        if name not in CASES:
            raise AloeError(f"No case {name!r}: expected all or some of {', '.join(CASES)}.")
    return {name: CASES[name] for name in wanted}


def random_transitions(states: int, dim: int, device: torch.device) -> Transitions:
    """Return transitions of the given shapes that mean nothing; speed is what is measured on them."""
    torch.manual_seed(0)
    rows = torch.arange(ROWS)
    return Transitions(
        states=torch.randn(ROWS, states),
        start=rows,
        end=rows.roll(-1),
        chunk=torch.rand(ROWS, dim) * 2 - 1,
        reward=-torch.rand(ROWS),
        discount=torch.full((ROWS,), 0.95),
    ).to(device)


@dataclass(frozen=True)
class Asked:
    """One row of the result."""

    case: str
    heads: int
    batch: int
    device: str
    bfloat16: bool  # chunks are sampled in it; the rest stays in float32 (TF32 on a GPU)
    compiled: bool


def prepare_case(asked: Asked) -> Callable[[int], dict[str, Any]]:
    """Return what times so many whole updates (critic, policy, target) and returns the row; all is compiled by then."""
    torch.set_float32_matmul_precision("high")
    case, device = CASES[asked.case], torch.device(asked.device)
    data = random_transitions(case.states, case.actions * case.horizon, device)
    sampling = "sampling" if asked.bfloat16 else "none"
    learner = FlatLearner(data, case.config(asked.heads, asked.batch), bfloat16=sampling, compiled=asked.compiled)
    update = one_graph(learner.update) if device.type == "cuda" else learner.update
    update()
    _wait(device)

    def measure(steps: int) -> dict[str, Any]:
        start = time.perf_counter()
        for _ in range(steps):
            loss = update()
        _wait(device)
        took = time.perf_counter() - start
        if not torch.isfinite(loss):
            raise AloeError(f"{asked.case}: the critic diverged, its last loss is {loss.item()}.")
        return {
            "case": asked.case,
            "updates_per_s": steps / took,
            "jax_scan_per_s": case.jax_scan_per_s,
            "jax_update_per_s": case.jax_update_per_s,
            "jax": RECORDED,
            "heads": asked.heads,
            "precision": "bfloat16 sampling" if asked.bfloat16 else "float32 sampling",
            "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else hardware(),
        }

    return measure


def one_graph(update: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Return `update` captured as one CUDA graph, after a few runs that allocate what it keeps; one launch a call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            update()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = update()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


def write(rows: list[dict[str, Any]], facts: dict[str, Any], out: Path) -> None:
    """Write the result of a GPU."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    prepared = prepare_case(Asked(**json.loads(sys.argv[1])))
    print("ready", flush=True)
    if told := sys.stdin.readline():
        print(json.dumps(prepared(int(told))), flush=True)

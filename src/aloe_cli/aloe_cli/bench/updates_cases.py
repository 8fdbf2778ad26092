"""The shapes of the Q-chunking JAX code, on a GPU: a whole update as one CUDA graph, beside what JAX does there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aloe_core.errors import AloeError
from aloe_critic.flat.config import FlatConfig, qc
from aloe_critic.flat.data import Transitions
from aloe_critic.flat.learner import FlatLearner

ROWS = 10_000  # transitions in memory


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


def measure_case(
    name: str, case: Case, heads: int, steps: int, batch: int, device: torch.device, *, bfloat16: bool, compiled: bool
) -> dict[str, Any]:
    """Return a row of the result: whole updates (critic, policy, target) a second."""
    data = random_transitions(case.states, case.actions * case.horizon, device)
    sampling = "sampling" if bfloat16 else "none"
    learner = FlatLearner(data, case.config(heads, batch), bfloat16=sampling, compiled=compiled)
    update = one_graph(learner.update) if device.type == "cuda" else learner.update
    loss = update()
    _wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        loss = update()
    _wait(device)
    took = time.perf_counter() - start
    if not torch.isfinite(loss):
        raise AloeError(f"{name}: the critic diverged, its last loss is {loss.item()}.")
    return {
        "case": name,
        "updates_per_s": steps / took,
        "jax_scan_per_s": case.jax_scan_per_s,
        "jax_update_per_s": case.jax_update_per_s,
        "heads": heads,
        "precision": "bfloat16 sampling" if bfloat16 else "float32 sampling",
    }


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

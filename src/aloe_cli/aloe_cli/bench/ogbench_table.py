"""The OGBench comparison as JSON, markdown and a picture, with the paper's figures and what differs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloe_cli.bench.ogbench_paper import FIGURES, NAMES
from aloe_cli.bench.ogbench_plot import plot
from aloe_cli.bench.ogbench_separation import SOON
from aloe_core.statistics import wilson

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """One method on one task, the episodes of its seeds pooled."""

    task: str
    method: str
    seeds: list[float]  # success of each
    success: float
    low: float  # of the 95 % interval
    high: float
    separation: float | None  # mean of the seeds

    @property
    def paper(self) -> tuple[str, str]:
        """The paper's success after 100,000 and after 1,000,000 updates, a dash where it has none."""
        return FIGURES.get((self.task, self.method), ("-", "-"))


LOSSES = 20  # of a phase, in the published JSON


def write(rows: Rows, facts: dict[str, Any], out: Path) -> None:
    """Write `out`.json, .md and .png."""
    out.parent.mkdir(parents=True, exist_ok=True)
    short = [row | {"losses": {name: fewer(found) for name, found in row.get("losses", {}).items()}} for row in rows]
    out.with_suffix(".json").write_text(json.dumps(facts | {"rows": short}, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(rows, facts, out.name))
    plot(pooled(rows), out.with_suffix(".png"))


def fewer(losses: list[list[float]]) -> list[list[float]]:
    """At most LOSSES entries of (updates, mean loss since the entry before), the means those of what they stand for."""
    size = -(-len(losses) // LOSSES)
    kept, since, before, total = [], 0.0, 0.0, 0.0
    for n, (step, mean) in enumerate(losses, 1):
        total += mean * (step - before)
        before = step
        if n % size == 0 or n == len(losses):
            kept.append([step, total / (step - since)])
            since, total = step, 0.0
    return kept


def pooled(rows: Rows) -> list[Line]:
    """Return one line a task and method."""
    lines = []
    for task, method in sorted({(row["task"], row["method"]) for row in rows}):
        mine = [row for row in rows if (row["task"], row["method"]) == (task, method)]
        runs = sorted(mine, key=lambda row: row["seed"])
        successes, trials = round(sum(r["success"] * r["episodes"] for r in runs)), sum(r["episodes"] for r in runs)
        separated = [r["separation"] for r in runs if r.get("separation") is not None]
        lines.append(
            Line(
                task,
                method,
                [r["success"] for r in runs],
                successes / trials,
                *wilson(successes, trials),
                sum(separated) / len(separated) if separated else None,
            )
        )
    return lines


def markdown(rows: Rows, facts: dict[str, Any], picture: str) -> str:
    """Return the table, the picture and what differs from the paper."""
    b = facts["budget"]
    lines = [
        "# OGBench cubes, offline, from states",
        "",
        f"Fitted on {' and '.join(sorted({row['fitted_on'] for row in rows}))}; measured on {facts['hardware']};",
        f"revision {facts['revision'][:12]}. Each run: {b['plays'] * 1001:,} steps of play data, {b['updates']:,}",
        f"updates of policy and critic each (`aloe`: half as many again), {b['episodes']} episodes measured.",
        "",
        "| task | method | success (95 %) | by seed | Q separates | paper, 100,000 updates | paper, 1,000,000 |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in pooled(rows):
        early, late = line.paper
        name = f"{line.method} ({NAMES[line.method]})" if line.method in NAMES else line.method
        seeds = ", ".join(f"{success:.2f}" for success in line.seeds)
        ours = f"{line.success:.2f} ({line.low:.2f} to {line.high:.2f})"
        separates = "-" if line.separation is None else f"{line.separation:.2f}"
        lines.append(f"| {line.task} | {name} | {ours} | {seeds} | {separates} | {early} | {late} |")
    return "\n".join([*lines, "", f"![success]({picture}.png)", "", _differences(b), ""])


def _differences(budget: dict[str, Any]) -> str:
    small = budget["networks"] == "small"
    networks = "3 layers of 256, 5 flow steps; the paper has 4 of 512 and 10" if small else "the paper's shapes"
    drawn = 8 if small else 32
    return f"""\
Intervals pool the episodes of all seeds (Wilson) and know nothing of the difference between seeds. Q separates: on
play episodes that were not learned from, the chance that Q of a chunk is higher where the task is done within {SOON}
steps than where it is not (0.5: Q knows nothing).

What differs from the paper (arXiv 2507.07969):

* Tasks: the paper has no `cube-single`, so its columns are empty there. OGBench's own paper (arXiv 2410.20092) reports
  policies that learn all goals at once and are told which one is meant, which is another question.
* Data: {budget["plays"] * 1001:,} steps made here by OGBench's scripted oracle with its settings for `play`; the
  released sets have 1,000,000 (single, double) and 3,000,000 (triple).
* Updates: {budget["updates"]:,} of the cloned policy, as many of the critic, and for `aloe` half as many again of
  either; the paper's columns are its first offline point and its last.
* Networks: {networks}; SiLU and no gain in layer norms, where the paper has GELU and gains. Rewards are divided by
  100 (1 / (1 - 0.99)); gradients are clipped at a norm of 1.
* The policy is cloned before the critic is fitted, so its chunks are drawn once, {drawn} a state (`aloe`: 8), and
  each target takes the best of them (`aloe`: one) by the slow copy of the critic. The paper clones and fits side by
  side and takes the best of 32 fresh ones by the critic itself. At run time both take 32; `nstep` and `td1` too,
  where the paper takes 4.
* `dqc` (arXiv 2512.10926): a critic of 25 actions, distilled by an expectile of 0.8 into one of 5, whose best of
  {drawn} chunks is the target; the paper backs up a quantile of 0.93 of the data's values instead.
* `aloe`: 5 heads and their minimum, one sample in the target, the policy refitted with advantage weights, the best of 8
  at run time. `bc`: the cloned policy, one sample; play data serves no goal, so it succeeds by accident only.
* Measured on {budget["episodes"]} episodes a seed; the paper averages 4 seeds or more of 50 episodes."""

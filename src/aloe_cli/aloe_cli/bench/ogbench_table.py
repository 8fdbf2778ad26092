"""The OGBench comparison as JSON and markdown, with the paper's figures and what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aloe_cli.bench.ogbench_paper import FIGURES, NAMES
from aloe_core.statistics import wilson

Rows = list[dict[str, Any]]


def write(rows: Rows, facts: dict[str, Any], out: Path) -> None:
    """Write `out`.json and `out`.md."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(rows, facts))


def markdown(rows: Rows, facts: dict[str, Any]) -> str:
    """Return one line a task and method, seeds pooled."""
    b = facts["budget"]
    lines = [
        "# OGBench cubes, offline, from states",
        "",
        f"{facts['hardware']}; revision {facts['revision'][:12]}. Each run: {b['plays'] * 1001:,} steps of play data,",
        f"{b['updates']:,} updates of policy and critic each, {b['episodes']} episodes measured.",
        "",
        "| task | method | success (95 %) | by seed | paper at 100,000 updates | paper at 1,000,000 updates |",
        "|---|---|---|---|---|---|",
    ]
    for task, method in sorted({(row["task"], row["method"]) for row in rows}):
        runs = [row for row in rows if (row["task"], row["method"]) == (task, method)]
        lines.append(_line(task, method, sorted(runs, key=lambda row: row["seed"])))
    return "\n".join([*lines, "", _DIFFERENCES, ""])


def _line(task: str, method: str, runs: Rows) -> str:
    successes = round(sum(row["success"] * row["episodes"] for row in runs))
    low, high = wilson(successes, trials := sum(row["episodes"] for row in runs))
    ours = f"{successes / trials:.2f} ({low:.2f} to {high:.2f})"
    seeds = ", ".join(f"{row['success']:.2f}" for row in runs)
    early, late = FIGURES.get((task, method), ("-", "-"))
    name = f"{method} ({NAMES[method]})" if method in NAMES else method
    return f"| {task} | {name} | {ours} | {seeds} | {early} | {late} |"


_DIFFERENCES = """\
Intervals pool the episodes of all seeds (Wilson) and know nothing of the difference between seeds.

What differs from the paper (arXiv 2507.07969):

* Data: made here by OGBench's scripted oracle with its settings for `play`, a tenth (double) or less (triple) of the
  released 1 M and 3 M steps.
* Updates: thousands, not a million; the paper's columns are the nearest there are to ours and its last offline point.
* Networks: 3 layers of 256, 5 flow steps; the paper has 4 of 512 and 10. Rewards are divided by 100 (1 / (1 - 0.99)).
* The policy is cloned before the critic is fitted, so its chunks are drawn once, 8 a state, and each target takes the
  best of them. The paper clones and fits side by side and takes the best of 32 fresh ones. At run time both take 32;
  `nstep` and `td1` too, where the paper takes 4.
* `dqc` (arXiv 2512.10926): a critic of 25 actions, distilled by an expectile of 0.8 into one of 5, whose best of 8
  chunks is the target; the paper backs up a quantile of 0.93 of the data's values instead.
* `aloe`: 5 heads and their minimum, one sample in the target, the policy refitted with advantage weights, the best of
  8 at run time. `bc`: the cloned policy, one sample; play data serves no goal, so it succeeds by accident only.
* Measured on 95 % intervals of few episodes; the paper averages 4 seeds or more of 50 episodes."""

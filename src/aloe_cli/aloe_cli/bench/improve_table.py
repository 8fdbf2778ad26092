"""The result of `./aloe bench improve`: JSON and markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from aloe_cli.bench.learning.table import critic_figures
from aloe_core.statistics import wilson

Rows = list[dict[str, Any]]

CRITICS = {
    "new": "each begun anew",
    "kept": "that of the run goes on learning where it fits; notes in the JSON say where not",
}


def write(rows: Rows, facts: dict[str, Any], out: Path) -> None:
    """Write `out`.json and `out`.md."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(facts | {"rows": rows}) + "\n")
    out.with_suffix(".md").write_text(markdown(rows, facts))


def markdown(rows: Rows, facts: dict[str, Any]) -> str:
    """Return one line a method and number of chunks, best first, with the paired difference to the best."""
    cells, critics = {}, {}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        for count in mine[0]["good"]:
            cells[method, int(count)] = [np.array(row["good"][count]) for row in mine]
            critics[method, int(count)] = [found for row in mine if (found := row.get("critic", {}).get(count))]
    order = sorted(cells, key=lambda cell: -np.concatenate(cells[cell]).mean())
    best = np.concatenate(cells[order[0]])
    fits = sorted({(row.get("revision") or "not recorded")[:12] for row in rows})
    lines = [
        "# One step of learning on the same data",
        "",
        f"{facts['hardware']}; table of revision {facts['revision'][:12]}, fits of {', '.join(fits)}.",
        "",
        f"{facts['episodes']} episodes for each run, the same starts. Data and policy before the step:",
        f"{', '.join(facts['runs'])}. Critics: {CRITICS[facts['critic']]}.",
        f"Hyperparameters on top of the run's own: {facts['overrides'] or 'none'}.",
        "",
        "| method | chunks sampled | success (95 %) | by run | less than the best (95 %, paired) "
        "| critic: Spearman, ECE, bias |",
        "|---|---|---|---|---|---|",
    ]
    for method, count in order:
        good = np.concatenate(cells[method, count])
        low, high = wilson(int(good.sum()), len(good))
        by_run = ", ".join(f"{one.mean():.2f}" for one in cells[method, count])
        lines.append(
            f"| {method} | {count} | {good.mean():.3f} ({low:.2f} to {high:.2f}) | {by_run} | {paired(best, good)} "
            f"| {critic_figures(critics[method, count])} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "Intervals are over episodes, given these data and this one fit of each method; they know nothing of other",
            "data or seeds of the fit. Figures of critics: Q_pess of the chunks that ran against what followed.",
            "",
        ]
    )


def paired(best: np.ndarray, good: np.ndarray) -> str:
    """The mean difference of two lists of 0 and 1, the same place in both being the same start, and its interval."""
    difference = (best - good).astype(float)
    if not difference.any():
        return ""
    half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
    return f"{difference.mean():.3f} ({difference.mean() - half:.3f} to {difference.mean() + half:.3f})"

"""The result of `./aloe bench rtc`: JSON, markdown and how large the steps are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Moves = list[tuple[np.ndarray, np.ndarray]]  # a row's largest moves a control step, at borders and inside, rad


def write(rows: list[dict[str, Any]], moves: Moves, facts: dict[str, Any], out: Path) -> None:
    """Write `out`.json, .md and .png."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(rows, facts, out.name))
    plot(rows, moves, facts["dt"], out.with_suffix(".png"))


def markdown(rows: list[dict[str, Any]], facts: dict[str, Any], picture: str) -> str:
    """Return one table of all tasks and ways."""
    lines = [
        "# Chunks under a delay",
        "",
        f"{facts['hardware']}; revision {facts['revision'][:12]}. Clones of {facts['demonstrations']} demonstrations "
        f"seen as poses, horizon {facts['horizon']}; {facts['episodes']} episodes a row, the same starts.",
        "",
        "| task | delay | chunking | success (95 %) | change (95 %, paired) | seconds | slower "
        "| border p50, p99, max, rad | inside p50, p99, max, rad |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["success_change_95"]
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
        slower = "" if row["slower"] is None else f"{row['slower']:+.1%}"
        lines.append(
            f"| {row['task']}/{row['level']} | {row['delay'] * facts['dt'] * 1e3:.0f} ms | {row['chunking']} "
            f"| {row['success']:.3f} ({row['wilson_low']:.2f} to {row['wilson_high']:.2f}) "
            f"| {row['success_change']:+.3f} ({low:+.3f} to {high:+.3f}) | {seconds} | {slower} "
            f"| {_steps(row, 'border')} | {_steps(row, 'inside')} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"![steps]({picture}.png)",
            "",
            "Seconds and slower: of the episodes that every way of the task did. Border, inside: the largest move",
            "of a revolute joint asked for from one control step to the next, where one chunk takes over from",
            "another and within one.",
            "",
        ]
    )


def plot(rows: list[dict[str, Any]], moves: Moves, dt: float, path: Path) -> None:
    """Draw, task by task, which share of steps is larger than so many rad."""
    tasks = list(dict.fromkeys((row["task"], row["level"]) for row in rows))
    figure, axes = plt.subplots(1, len(tasks), figsize=(5.5 * len(tasks), 3.8), squeeze=False, sharey=True)
    for axis, (task, level) in zip(axes[0], tasks, strict=True):
        mine = [
            (row, move) for row, move in zip(rows, moves, strict=True) if (row["task"], row["level"]) == (task, level)
        ]
        for colour, (row, (border, inside)) in zip(("C7", "C3", "C0"), mine, strict=False):
            name = f"{row['chunking']}, {row['delay'] * dt * 1e3:.0f} ms"
            for values, style, where in ((border, "-", "where chunks meet"), (inside, ":", "inside")):
                if len(values):
                    share = 1 - np.arange(len(values)) / len(values)
                    axis.step(np.sort(values), share, style, color=colour, label=f"{name}, {where}", where="post")
        axis.set(title=f"{task}/{level}", xlabel="move asked for in a control step, rad", yscale="log")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("share of steps that are larger")
    axes[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _steps(row: dict[str, Any], where: str) -> str:
    values = [row[f"{where}_step_{key}_rad"] for key in ("p50", "p99", "max")]
    return ", ".join("-" if value is None else f"{value:.4f}" for value in values)

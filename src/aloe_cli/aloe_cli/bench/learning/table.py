"""The learning benchmark's result: JSON, markdown and curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from aloe_cli.bench.learning.yardstick import YARDSTICK, Rows, grouped, mean, times_to_yardstick, yardsticks
from aloe_core.statistics import wilson
from aloe_critic.variants import VARIANTS

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D


def write(rows: Rows, facts: dict[str, Any], out: Path) -> None:
    """Write `out`.json, .md and .png; `facts` are the budget, the hardware and the revision."""
    out.parent.mkdir(parents=True, exist_ok=True)
    result = facts | {"rows": rows, "yardstick": yardsticks(rows)}
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(rows, facts, out.name))
    if rows:
        plot(rows, out.with_suffix(".png"))


def markdown(rows: Rows, facts: dict[str, Any], picture: str) -> str:
    """Return one table a task and human, methods by mean final success."""
    ran = sorted({(row.get("revision") or "not recorded")[:12] for row in rows})
    lines = [
        "# Learning benchmark",
        "",
        f"{facts['hardware']}; table of revision {facts['revision'][:12]}, runs of {', '.join(ran)}.",
        "",
        facts["budget_text"],
    ]
    for (task, level, human), group in grouped(rows, "task", "level", "human").items():
        lines += ["", f"## {task}/{level}, {human} person", ""]
        methods = grouped(group, "method")
        lines += [
            "| method | final success (95 %) | by seed | successes an hour | person's share, first to last "
            f"| robot time to {YARDSTICK}'s success, s | share of {YARDSTICK}'s robot time "
            "| critic: Spearman, ECE, bias |",
            "|---|---|---|---|---|---|---|---|",
            _warm_line(group),
        ]
        reached = {found["method"]: found for found in times_to_yardstick(group)}
        for (method,), runs in sorted(methods.items(), key=lambda item: -mean(item[1], "final_success")):
            lines.append(_line(method, runs, reached.get(method)))
    lines += ["", f"![curves]({picture}.png)", "", *_variants(rows)]
    lines += [
        "Success: autonomous episodes on start states that no run trains on, the same for every method of a seed.",
        "Intervals pool the episodes of all seeds (Wilson) and know nothing of the difference between seeds, which the",
        "column beside them shows. Figures of critics: Q_pess of the chunks that ran in the measured episodes of the",
        f"last round against the return that followed. Times to {YARDSTICK}'s success are of the seeds that both have.",
        "",
    ]
    return "\n".join(lines)


def _warm_line(group: Rows) -> str:
    by_seed = {row["seed"]: row["curve"][0] for row in group}
    points = [by_seed[seed] for seed in sorted(by_seed)]
    return f"| warm start | {_pooled(points)} | {_list(p['success'] for p in points)} | {_average(points)} | | | | |"


def _line(method: str, runs: Rows, reached: dict[str, Any] | None) -> str:
    runs = sorted(runs, key=lambda row: row["seed"])
    points = [row["curve"][-1] for row in runs]
    first = np.mean([row["curve"][1]["intervention_rate"] for row in runs])
    last = np.mean([row["curve"][-1]["intervention_rate"] for row in runs])
    critics = critic_figures([row["critic"] for row in runs if row.get("critic")])
    return (
        f"| {method} | {_pooled(points)} | {_list(p['success'] for p in points)} | {_average(points)} "
        f"| {first:.2f} to {last:.2f} | {_reached(reached)} | {critics} |"
    )


def _reached(found: dict[str, Any] | None) -> str:
    if found is None:
        return " | "
    if found["share"] is None:
        return "not reached | not reached"
    return f"{found['interaction_s']:.0f} | {found['share']:.0%}"


def critic_figures(known: Rows) -> str:
    """Means over seeds of Spearman, ECE and bias; nothing without critics."""
    figures = []
    for name in ("spearman", "ece", "bias"):
        values = [critic[name] for critic in known if critic[name] is not None]
        figures.append(f"{np.mean(values):.2f}" if values else "-")
    return ", ".join(figures) if known else ""


def _variants(rows: Rows) -> list[str]:
    used = sorted({variant for row in rows for variant in row.get("variants", ())})
    return [*(f"* `+{name}`: {VARIANTS[name].about}" for name in used), ""] if used else []


def _pooled(points: Rows) -> str:
    episodes = sum(p["episodes"] for p in points)
    good = sum(round(p["success"] * p["episodes"]) for p in points)
    low, high = wilson(good, episodes)
    return f"{good / episodes:.2f} ({low:.2f} to {high:.2f})"


def _list(values: Any) -> str:
    return " ".join(f"{v:.2f}" for v in values)


def _average(points: Rows) -> str:
    return f"{np.mean([p['successes_per_hour'] for p in points]):.0f}"


def plot(rows: Rows, path: Path) -> None:
    """Success against robot time and against successful supervised episodes; thin lines are seeds."""
    groups = grouped(rows, "task", "level", "human")
    figure, axes = plt.subplots(len(groups), 2, figsize=(11, 4 * len(groups) + 0.6), squeeze=False, sharey=True)
    methods = sorted({row["method"] for row in rows})
    colours = dict(zip(methods, plt.get_cmap("tab20")(np.linspace(0, 1, 20)), strict=False))
    for line, ((task, level, human), group) in zip(axes, groups.items(), strict=True):
        for axis, key, label in zip(
            line, ("interaction_s", "successes"), ("robot time, s", "successful supervised episodes"), strict=True
        ):
            for (method,), runs in sorted(grouped(group, "method").items()):
                curves = [np.array([[p[key], p["success"]] for p in row["curve"]], float) for row in runs]
                for curve in curves if len(curves) > 1 else ():
                    axis.plot(*curve.T, color=colours[method], alpha=0.25, lw=1)
                axis.plot(*np.mean(curves, axis=0).T, "o-", ms=4, color=colours[method])
            axis.set(xlabel=label, ylim=(-0.02, 1.02), title=f"{task}/{level}, {human} person")
            axis.grid(alpha=0.3)
        line[0].set_ylabel("autonomous success")
    figure.set_layout_engine("constrained")
    marks = [Line2D([], [], color=colours[method], marker="o", ms=4) for method in methods]
    figure.legend(marks, methods, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)

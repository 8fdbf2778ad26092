"""How soon a method does as well as RECAP in the end: robot time, and its share of RECAP's."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]
YARDSTICK = "recap"  # whose final success the others are timed to


def yardsticks(rows: Rows) -> Rows:
    """`times_to_yardstick` of every task and person."""
    groups = grouped(rows, "task", "level", "human").items()
    return [
        {"task": task, "level": level, "human": human} | found
        for (task, level, human), group in groups
        for found in times_to_yardstick(group)
    ]


def times_to_yardstick(group: Rows) -> Rows:
    """Of each method of one task and person: robot time (s) after which the mean over seeds is what RECAP ends with.

    Only the seeds that the method and RECAP both have are looked at (`seeds`), for their starts differ; a method that
    shares none is left out. `share` is of RECAP's own robot time; 0.5 is half the interaction. Both None if never.
    Empty without a run of RECAP. Success is measured after each round only, so the time is that of the first round that
    ends as well or better.
    """
    methods = grouped(group, "method")
    yardstick = {row["seed"]: row for row in methods.get((YARDSTICK,), [])}
    found: Rows = []
    for (method,), runs in methods.items():
        mine = sorted((row for row in runs if row["seed"] in yardstick), key=lambda row: row["seed"])
        if not mine:
            continue
        seeds = [row["seed"] for row in mine]
        whole, goal = _means([yardstick[seed] for seed in seeds])[-1]
        spent = next((spent for spent, success in _means(mine) if success >= goal), None)
        share = None if spent is None else spent / whole
        found.append({"method": method, "seeds": seeds, "goal": goal, "interaction_s": spent, "share": share})
    return found


def _means(runs: Rows) -> list[tuple[float, float]]:
    """Robot time and success after each round, means over seeds."""
    rounds = zip(*(row["curve"] for row in runs), strict=True)
    return [(mean(list(points), "interaction_s"), mean(list(points), "success")) for points in rounds]


def mean(runs: Rows, key: str) -> float:
    """Of one number of each row."""
    return float(np.mean([row[key] for row in runs]))


def grouped(rows: Rows, *keys: str) -> dict[tuple[str, ...], Rows]:
    """Rows by their values at `keys`."""
    groups: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        groups[tuple(row[k] for k in keys)].append(row)
    return dict(groups)

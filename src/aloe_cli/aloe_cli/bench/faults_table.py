"""The fault matrix as figures and as a page."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aloe_cli.bench.faults_bags import Damage
from aloe_cli.bench.faults_trial import Seen
from aloe_core.errors import AloeError

_PREFIX = re.compile(r"^(\[[^\]]*\]:? ?)+")
_SENTENCE = 110  # characters of a sentence shown


def summary(seen: Iterable[Seen], slack: float) -> list[dict[str, Any]]:
    """Return one row a fault, in the order of the matrix; `slack` as of `Seen.problems`."""
    by_fault: dict[str, list[Seen]] = {}
    for one in seen:
        by_fault.setdefault(one.fault.name, []).append(one)
    return [_row(name, trials, slack) for name, trials in by_fault.items()]


def _row(name: str, trials: list[Seen], slack: float) -> dict[str, Any]:
    done = [trial for trial in trials if not trial.skipped]
    row: dict[str, Any] = {"fault": name, "trials": len(done), "skipped": trials[0].skipped}
    if not done:
        return row
    held = [trial.held for trial in done]
    return row | {
        "limit_s": done[0].fault.limit,
        "clock": "robot" if done[0].fault.robot_time else "wall",
        "held_s_median": round(statistics.median(held), 3),
        "held_s_max": round(max(held), 3),
        "at_rest_s_max": round(max(trial.rest for trial in done), 3),
        "steps_over_slew_limit": sum(trial.jumps for trial in done),
        "finished": sum(trial.saved for trial in done),
        "lost": sum(trial.lost for trial in done),
        "torn": sum(trial.torn for trial in done),
        "recovered": sum(trial.recovered for trial in done),
        "torn_lost_s_max": round(max(trial.lost_seconds for trial in done), 2),
        "told": sum(bool(trial.said) for trial in done),
        "said": _sentence(next((trial.said for trial in done if trial.said), "")),
        "problems": [problem for trial in done for problem in trial.problems(slack)],
    }


def _sentence(said: str) -> str:
    """Return what was said without the prefixes of the log."""
    who = re.search(r"\[(\w+_\w+?)(-\d+)?\]", said)
    text = _PREFIX.sub("", said)
    text = re.sub(r", cmd '.*", "].", text)
    text = re.sub(r"/\S*/(?:bags|small)/", "", text)  # the temporary folder
    return (f"{who.group(1)}: " if who and not text.startswith("/") else "") + text.lstrip("/")


def earlier(out: Path | None, slack: float, hardware: str) -> tuple[list[dict[str, Any]], Damage]:
    """Return the rows and damaged bags of an earlier run in `out`; AloeError if they cannot stand in one table."""
    file = out / "faults.json" if out is not None else None
    if file is None or not file.exists():
        return [], Damage()
    try:
        report = json.loads(file.read_text())
        rows, bags = report["faults"], Damage(**report["bags"])
        conditions = (report["slack_s"], report["hardware"])
    except (ValueError, KeyError, TypeError) as error:
        raise AloeError(f"{file}: not a report of bench faults ({error}); choose another --out.") from error
    if conditions != (slack, hardware):
        raise AloeError(f"{file}: measured with slack {conditions[0]} s on {conditions[1]}; choose another --out.")
    return rows, bags


def merged(before: list[dict[str, Any]], rows: list[dict[str, Any]], order: list[str]) -> list[dict[str, Any]]:
    """Return one row a fault in the order of the matrix, the newer where there are two."""
    by_fault = {row["fault"]: row for row in (*before, *rows)}
    return [by_fault[name] for name in order if name in by_fault]


def page(rows: list[dict[str, Any]], bags: Damage, hardware: str, slack: float) -> str:
    """Return docs/results/faults.md."""
    head = _HEAD.format(hardware=hardware, slack=slack)
    return "\n".join([head, "", *_COLUMNS, *map(_line, rows), "", _problems(rows), "", _bags(bags), ""])


_HEAD = """# Fault matrix

`./aloe bench faults`, {hardware}. Real processes over DDS: `launch/robot.launch.xml` with
the simulated robot in place of a real one. Each fault strikes at a random moment of an episode of its own; 2 s are
2 s or more by the wall clock and by the robot's, which a busy machine slows down.

* *held*: from the fault to the last command that is not HOLD (to the last command at all where the arbiter is
  struck), median and largest. A robot that holds by itself because its input was late anyway counts too.
* *limit*: the contract's time-out. Chunks and frames age in the robot's time (r), the rest by the wall clock (w);
  {slack} s are added for a busy machine. A dash: nobody has to hold.
* *finished / lost*: episodes saved in the lives of the graph that the fault was part of; those unreadable afterwards.
* *torn / recovered*: bags left unfinished and made whole again; the most that such a bag lacked."""
_COLUMNS = (
    "| fault | trials | held s | limit s | over slew limit | finished / lost | torn / recovered | told | said |",
    "|---|---|---|---|---|---|---|---|---|",
)


def _line(row: dict[str, Any]) -> str:
    if row["skipped"]:
        return f"| {row['fault']} | 0 | | | | | | | skipped: {row['skipped']} |"
    limit = f"{row['limit_s']:g} {row['clock'][0]}" if row["limit_s"] is not None else "-"
    torn = f"{row['torn']} / {row['recovered']}" + (f", {row['torn_lost_s_max']} s" if row["torn"] else "")
    held = f"{row['held_s_median']}, {row['held_s_max']}" if row["limit_s"] is not None else "-"
    return (
        f"| {row['fault']} | {row['trials']} | {held} | {limit} "
        f"| {row['steps_over_slew_limit']} | {row['finished']} / {row['lost']} | {torn} "
        f"| {row['told']} of {row['trials']} | {_shortened(row['said'])} |"
    )


def _problems(rows: list[dict[str, Any]]) -> str:
    found = [f"* {row['fault']}: {_shortened(problem)}" for row in rows for problem in row.get("problems", ())]
    return "\n".join(["Broken promises:", "", *found]) if found else "No promise was broken."


def _shortened(said: str) -> str:
    said = said.replace("|", "/")
    return said if len(said) <= _SENTENCE else said[:_SENTENCE] + " …"


def _bags(bags: Damage) -> str:
    return (
        f"Bags of these episodes, damaged afterwards: {bags.flips} with a flipped bit, {bags.flips_told} told by "
        f"`./aloe bag check`; {bags.cuts} cut at a random byte, {bags.cuts_told} told. Recovery kept all that was in "
        f"whole chunks in {bags.kept} of {bags.flips + bags.cuts}."
    )

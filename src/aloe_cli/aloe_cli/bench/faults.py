"""`./aloe bench faults`: what happens to robot, episodes and operator when a part of the graph breaks."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from aloe_cli import paths
from aloe_cli.bench.faults_bags import Damage, damage
from aloe_cli.bench.faults_cases import faults
from aloe_cli.bench.faults_table import earlier, merged, page, summary
from aloe_cli.bench.faults_trial import Seen, live
from aloe_cli.bench.hardware import hardware
from aloe_cli.command import VerbApp
from aloe_cli.errors import AloeFailure
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.contract import load_contract
from aloe_core.episode.check import check_bag
from aloe_core.errors import AloeError
from aloe_ros.domain import own_domain

app = VerbApp(help="Break every part of the running graph at random moments and see what follows.")


@app.command(name="faults")
def run(
    trials: Annotated[int, typer.Option(help="Of every fault.")] = 1,
    only: Annotated[
        str, typer.Option(help="Faults whose name contains this; --out keeps the figures of the others.")
    ] = "",
    slack: Annotated[float, typer.Option(help="Seconds that a busy machine may add to a limit.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the moments at which faults strike.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for faults.md and faults.json.", metavar="DIR")] = None,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Print per fault how soon the robot held, what was lost and who was told; exit code 1 if a promise was broken."""
    path = paths.contract(contract).resolve()
    robot = load_contract(path)
    if trials < 1:
        raise AloeError(f"trials = {trials}: expected at least 1.")
    lives = [[fault for fault in life if only in fault.name] for life in faults(robot)]
    lives = [life for life in lives if life]
    if not lives:
        names = ", ".join(fault.name for life in faults(robot) for fault in life)
        raise AloeError(f"only = {only!r}: no such fault; there is {names}.")
    order = [fault.name for life in faults(robot) for fault in life]
    before, bags = earlier(out, slack, hardware()) if only else ([], Damage())
    own_domain()
    seen: list[Seen] = []
    report: dict[str, Any] = {}
    with progress("graphs", trials * len(lives)) as bar:
        for trial in range(trials):
            for life in lives:
                with tempfile.TemporaryDirectory(prefix="aloe-faults-") as folder:
                    seen += _live(Path(folder), path, life, seed + trial)
                    _damage(Path(folder), robot, seed + trial, bags)
                rows = merged(before, summary(seen, slack), order)
                report = _report(rows, bags, slack, out)
                bar.advance()
    _print(report["faults"])
    return report | ({"exit_code": 1} if report["broken"] else {})


def _report(rows: list[dict[str, Any]], bags: Damage, slack: float, out: Path | None) -> dict[str, Any]:
    """Return the figures so far, written into `out` as well, since all of them take long."""
    broken = sum(len(row.get("problems", ())) for row in rows)
    report = {"slack_s": slack, "broken": broken, "faults": rows, "bags": vars(bags), "hardware": hardware()}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "faults.json").write_text(json.dumps(report, indent=1) + "\n")
        (out / "faults.md").write_text(page(rows, bags, report["hardware"], slack))
    return report


def _live(folder: Path, contract: Path, life: list, seed: int) -> list[Seen]:
    try:
        return live(folder, contract, life, seed)
    except AssertionError as error:  # how a Spinner says that something did not happen in time
        raise AloeFailure(f"The graph stalled: {error}") from error


def _damage(folder: Path, robot: Any, seed: int, total: Damage) -> None:
    """Add what comes of damaging the first bag of a life that nothing is wrong with."""
    bags = (file.parent for file in sorted(folder.glob("bags/*/metadata.yaml")))
    bag = next((bag for bag in bags if check_bag(bag, robot).ok), None)
    if bag is None:
        return
    found = damage(bag, robot, folder / "damaged", 3, random.Random(seed))
    for name, value in vars(found).items():
        setattr(total, name, getattr(total, name) + value)


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table("fault", "trials", "held s", "limit s", "lost", "told", "problems")
    for row in rows:
        if row["skipped"]:
            table.add_row(row["fault"], "0", "", "", "", "", f"skipped: {row['skipped']}")
            continue
        limit = "" if row["limit_s"] is None else f"{row['limit_s']:g}"
        told = f"{row['told']}/{row['trials']}"
        problems = "; ".join(row["problems"])
        table.add_row(
            row["fault"], str(row["trials"]), f"{row['held_s_max']:.3f}", limit, str(row["lost"]), told, problems
        )
    Console(highlight=False).print(table)

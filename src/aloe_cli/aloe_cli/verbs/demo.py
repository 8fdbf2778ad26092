"""`./aloe demo`: the whole loop on the simulator, through real ROS 2."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from aloe_cli import paths
from aloe_cli.command import VerbApp, print_json
from aloe_core.contract import load_contract
from aloe_core.errors import AloeError

app = VerbApp()


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="New folder for bags, checkpoints and the report; default: demo_out/<time>.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of demonstrations, supervision and training.", min=0)] = 0,
) -> dict[str, Any] | None:
    """Demonstrate, clone, supervise, improve, measure. ALOE_DEMO=smoke runs every step in under two minutes."""
    from aloe_cli.demo import loop, report
    from aloe_cli.demo.graph import Graph
    from aloe_cli.demo.plan import FULL, SMOKE

    kind = os.environ.get("ALOE_DEMO", "full")
    if kind not in ("full", "smoke"):
        raise AloeError(f"ALOE_DEMO = {kind!r}: expected full or smoke.")
    plan = FULL if kind == "full" else SMOKE
    folder = _prepare(out)
    contract_path = paths.contract(None)
    contract = load_contract(contract_path)
    arguments = {
        "contract": str(contract_path),
        "task": plan.task,
        "level": plan.level,
        "bag_dir": str(folder / "bags"),
        "checkpoint_dir": str(folder / "checkpoints"),
    }
    start = time.monotonic()
    with Graph(paths.resource("launch/sim.launch.xml"), arguments, folder / "graph.log") as graph:
        story = loop.run(plan, graph, folder, seed)
    outcome = report.result(story, seed, time.monotonic() - start)
    written = report.write(story, contract, outcome)
    typer.echo(f"Report: {written / 'report.md'}", err=True)
    print_json(outcome)
    return None


def _prepare(out: Path | None) -> Path:
    """Make the folder of this run; without --out a new one a run, so that nothing is ever overwritten."""
    out = out or Path("demo_out") / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise AloeError(f"{out} exists already: choose another --out.") from None
    except OSError as error:
        raise AloeError(f"{out}: the demo cannot write there ({error.strerror}).") from error
    return out.resolve()

"""`./aloe demo`: the whole loop on the simulator, through real ROS 2."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from aloe_cli.command import VerbApp, print_json
from aloe_core.contract import load_contract
from aloe_core.errors import AloeError

app = VerbApp()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for bags, checkpoints and the report; must not exist yet.")] = Path(
        "demo_out"
    ),
    seed: Annotated[int, typer.Option(help="Of demonstrations, supervision and training.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option(help="Delete an earlier demo in --out first.")] = False,
) -> dict[str, Any] | None:
    """Demonstrate, clone, supervise, improve, measure. ALOE_DEMO=smoke runs every step in under two minutes."""
    from aloe_cli.demo import loop, report
    from aloe_cli.demo.graph import Graph
    from aloe_cli.demo.plan import FULL, SMOKE

    kind = os.environ.get("ALOE_DEMO", "full")
    if kind not in ("full", "smoke"):
        raise AloeError(f"ALOE_DEMO = {kind!r}: expected full or smoke.")
    plan = FULL if kind == "full" else SMOKE
    root = repository()
    _prepare(out, overwrite)
    contract_path = root / "config" / "robots" / "aloha_sim.yaml"
    contract = load_contract(contract_path)
    arguments = {
        "contract": str(contract_path),
        "task": plan.task,
        "level": plan.level,
        "bag_dir": str(out.resolve() / "bags"),
        "checkpoint_dir": str(out.resolve() / "checkpoints"),
    }
    start = time.monotonic()
    with Graph(root / "launch" / "sim.launch.xml", arguments, out / "graph.log") as graph:
        story = loop.run(plan, graph, out.resolve(), seed)
    outcome = report.result(story, seed, time.monotonic() - start)
    folder = report.write(story, contract, outcome)
    typer.echo(f"Report: {folder / 'report.md'}", err=True)
    print_json(outcome)
    return None


def repository() -> Path:
    """The folder that holds launch/ and config/: the repository, or the share folder of aloe_bringup."""
    for folder in (Path.cwd(), *Path(__file__).resolve().parents):
        if (folder / "launch" / "sim.launch.xml").is_file() and (folder / "config" / "robots").is_dir():
            return folder
    from ament_index_python import get_package_share_directory

    return Path(get_package_share_directory("aloe_bringup"))


def _prepare(out: Path, overwrite: bool) -> None:
    if out.exists() and overwrite and (out / "graph.log").is_file():
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise AloeError(f"{out} exists already: choose another --out, or --overwrite an earlier demo.") from None
    except OSError as error:
        raise AloeError(f"{out}: the demo cannot write there ({error.strerror}).") from error

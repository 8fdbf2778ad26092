"""`./aloe bag`: what is in a bag, whether it is sound, how to mend or discard it, what a critic says of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from aloe_cli import paths
from aloe_cli.bag_rows import info_row, recovery_row, transition_row
from aloe_cli.command import VerbApp
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.contract import load_contract
from aloe_core.episode.check import Level, check_bag
from aloe_core.episode.data import Source
from aloe_core.episode.files import being_written, move_to_trash
from aloe_core.episode.index import EpisodeIndex
from aloe_core.episode.metadata import FILE
from aloe_core.episode.names import PARTIAL, TRASH
from aloe_core.episode.recover import Status, recover_bag
from aloe_core.errors import AloeError

app = VerbApp(help="Inspect, check, recover and score bags.")

Dirs = Annotated[list[Path], typer.Argument(help="Bag directories, or folders of bags.", metavar="DIR…")]


@app.command()
def info(dirs: Dirs) -> dict[str, Any]:
    """Print the labels and the size of each bag; reads metadata only."""
    table = Table("bag", "task", "outcome", "end", "s", "steps", "human", "MB", "lost", box=None, pad_edge=False)
    rows = []
    for bag in _bags(dirs):
        row = info_row(bag)
        rows.append(row)
        keys = ("task", "outcome", "end", "seconds", "steps", "intervention_steps", "megabytes", "dropped")
        table.add_row(bag.name, *(str(row[key]) for key in keys))
    Console().print(table)
    return {"bags": rows, "outcomes": Counter(row["outcome"] for row in rows)}


@app.command()
def check(dirs: Dirs, contract: ContractOption = None) -> dict[str, Any]:
    """Verify checksums, definitions, topics, rates, gaps, alignment, labels, contract; exit code 1 if a bag fails."""
    robot = load_contract(paths.contract(contract))
    rows = []
    for bag in _watched(_bags(dirs), "checking bags"):
        report = check_bag(bag, robot)
        print(f"{bag}: {'ok' if report.ok else 'FAILED'}")
        for problem in report.problems:
            print(f"  {problem.level.value}: {problem.text}")
        texts = {level: [p.text for p in report.problems if p.level is level] for level in Level}
        rows.append({"path": bag, "ok": report.ok, "errors": texts[Level.ERROR], "warnings": texts[Level.WARNING]})
    failed = sum(not row["ok"] for row in rows)
    return {"bags": rows, "failed": failed, "exit_code": 1 if failed else 0}


@app.command()
def recover(dirs: Dirs) -> dict[str, Any]:
    """Repair torn (.partial) and damaged bags; the originals go to trash/. Exit code 0 whole, 1 failed, 3 with loss."""
    done = [recover_bag(bag) for bag in _watched(_bags(dirs, torn=True), "recovering bags")]
    for item in done:
        print(f"{item.path}: {item.status.name.lower()}, {item.messages} messages kept, {item.detail}.")
    statuses = {item.status for item in done}
    worst = next((s for s in (Status.FAILED, Status.RECOVERED) if s in statuses), Status.CLEAN)
    return {"bags": [recovery_row(item) for item in done], "exit_code": int(worst)}


@app.command()
def transitions(
    dirs: Dirs,
    contract: ContractOption = None,
    horizon: Annotated[
        int | None, typer.Option(help="Steps of a chunk; default: the contract's execute.", min=1)
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Steps between windows; default: one per chunk.", min=1)] = None,
) -> dict[str, Any]:
    """Count the chunk transitions a learner gets from each bag; a bag that cannot be learnt from says why."""
    robot = load_contract(paths.contract(contract))
    table = Table("bag", "steps", *(s.name.lower() for s in Source), "terminated", "cut", box=None, pad_edge=False)
    rows: list[dict[str, Any]] = []
    for bag in _watched(_bags(dirs), "reading bags"):
        try:
            row = transition_row(bag, robot, horizon or robot.chunk.execute, stride)
        except AloeError as error:
            rows.append({"path": bag, "error": str(error)})
            continue
        rows.append(row)
        table.add_row(bag.name, *(str(value) for key, value in row.items() if key not in ("path", "transitions")))
    Console().print(table)
    unusable = [row for row in rows if "error" in row]
    for row in unusable:
        print(row["error"])
    total = sum(row["transitions"] for row in rows if "transitions" in row)
    return {"bags": rows, "transitions": total, "unusable": len(unusable), "exit_code": 1 if unusable else 0}


@app.command()
def trash(
    dirs: Dirs,
    episode: Annotated[
        list[str] | None, typer.Option(help="Id of an episode in the folder DIR; may be given several times.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved.")] = False,
) -> dict[str, Any]:
    """Move bags to the trash/ folder beside them; nothing is deleted. DIR: bags, or with --episode their folder."""
    meant = _by_id(dirs, episode) if episode else dirs
    for bag in meant:
        _check_trash(bag)
    moves = []
    for bag in meant:
        target = bag.absolute().parent / TRASH / bag.name if dry_run else move_to_trash(bag.absolute())
        print(f"{bag} {'would go' if dry_run else 'has gone'} to {target}")
        moves.append({"path": bag, "trash": target})
    return {"moved": moves, "dry_run": dry_run}


@app.command()
def score(
    dirs: Dirs,
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint with a critic, or a folder whose LATEST is meant.", metavar="CKPT")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for what is written; default: runs/score-<utc>.", metavar="DIR")
    ] = None,
    chunks: Annotated[bool, typer.Option("--chunks", help="Print every chunk in place of one line a bag.")] = False,
    timeout: Annotated[
        str, typer.Option(help="What followed a time-out: continued (never done), failed, omitted.")
    ] = "continued",
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Q, V and A of every chunk by a checkpoint's critic: table, plots, report and a bag of values beside each."""
    from aloe_cli import bag_score  # torch, for this verb alone
    from aloe_critic.evaluation.realised import check_timeout

    robot = load_contract(paths.contract(contract))
    return bag_score.score(_bags(dirs), checkpoint, robot, out, chunks=chunks, timeout=check_timeout(timeout))


def _bags(dirs: list[Path], *, torn: bool = False) -> list[Path]:
    """Return the bags meant by `dirs`; AloeError names a directory that holds none."""
    found: list[Path] = []
    for directory in dirs:
        if not directory.is_dir():
            raise AloeError(f"{directory}: no such directory.")
        if _is_bag(directory):
            found.append(directory)
            continue
        below = [d for d in sorted(directory.iterdir()) if _is_bag(d) and (torn or not d.name.endswith(PARTIAL))]
        if not below and not torn:
            raise AloeError(f"{directory}: neither a bag nor a folder of bags.")
        found += below
    return found


def _by_id(folders: list[Path], episodes: list[str]) -> list[Path]:
    """Return the bags of episodes in one folder."""
    if len(folders) != 1 or not folders[0].is_dir():
        raise AloeError("--episode: expected one folder of bags, and nothing else.")
    index = EpisodeIndex(folders[0])
    return [index.find(episode).path for episode in dict.fromkeys(episodes)]


def _check_trash(bag: Path) -> None:
    if not _is_bag(bag):
        raise AloeError(f"{bag}: not a bag: name its episodes with --episode if it is a folder of bags.")
    if bag.absolute().parent.name == TRASH:
        raise AloeError(f"{bag}: is in {TRASH}/ already.")
    if being_written(bag):
        raise AloeError(f"{bag}: is being recorded right now.")


def _is_bag(directory: Path) -> bool:
    return directory.is_dir() and ((directory / FILE).is_file() or any(directory.glob("*.mcap")))


def _watched(bags: list[Path], what: str) -> Iterable[Path]:
    with progress(what, len(bags)) as task:
        for bag in bags:
            yield bag
            task.advance(note=bag.name)

"""`./aloe bag`: what is in a bag, whether it is sound, how to mend it, what a critic says of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from aloe_cli import paths
from aloe_cli.command import VerbApp
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_core.contract import RobotContract, load_contract
from aloe_core.episode.bag import read_labels
from aloe_core.episode.check import Level, check_bag
from aloe_core.episode.data import Source
from aloe_core.episode.labels import EpisodeLabels
from aloe_core.episode.metadata import FILE, read_metadata
from aloe_core.episode.names import PARTIAL
from aloe_core.episode.reader import read_episode
from aloe_core.episode.recover import Recovery, Status, recover_bag
from aloe_core.episode.transitions import chunk_transitions
from aloe_core.errors import AloeError

app = VerbApp(help="Inspect, check, recover and score bags.")

Dirs = Annotated[list[Path], typer.Argument(help="Bag directories, or folders of bags.", metavar="DIR…")]


@app.command()
def info(dirs: Dirs) -> dict[str, Any]:
    """Print the labels and the size of each bag; reads metadata only."""
    table = Table("bag", "task", "outcome", "end", "s", "steps", "human", "MB", "lost", box=None, pad_edge=False)
    rows = []
    for bag in _bags(dirs):
        row = _info_row(bag)
        rows.append(row)
        keys = ("task", "outcome", "end", "seconds", "steps", "intervention_steps", "megabytes", "dropped")
        table.add_row(bag.name, *(str(row[key]) for key in keys))
    Console().print(table)
    return {"bags": rows, "outcomes": Counter(row["outcome"] for row in rows)}


@app.command()
def check(dirs: Dirs, contract: ContractOption = None) -> dict[str, Any]:
    """Verify checksums, definitions, topics, rates, gaps, labels and contract; exit code 1 if a bag fails."""
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
    return {"bags": [_recovery_row(item) for item in done], "exit_code": int(worst)}


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
            row = _transition_row(bag, robot, horizon or robot.chunk.execute, stride)
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


def _is_bag(directory: Path) -> bool:
    return directory.is_dir() and ((directory / FILE).is_file() or any(directory.glob("*.mcap")))


def _watched(bags: list[Path], what: str) -> Iterable[Path]:
    with progress(what, len(bags)) as task:
        for bag in bags:
            yield bag
            task.advance(note=bag.name)


def _info_row(bag: Path) -> dict[str, Any]:
    labels: EpisodeLabels = read_labels(bag)
    information = read_metadata(bag)
    size = sum(file.stat().st_size for file in bag.iterdir())
    return {
        "path": bag,
        "episode_id": labels.episode_id,
        "task": labels.task,
        "instruction": labels.instruction,
        "seed": labels.seed,
        "outcome": labels.outcome.name.lower(),
        "end": labels.end,
        "reason": labels.reason,
        "contract": labels.contract,
        "contract_hash": labels.contract_hash,
        "policy_versions": labels.policy_versions,
        "seconds": round(information["duration"]["nanoseconds"] * 1e-9, 2),
        "steps": labels.steps,
        "intervention_steps": labels.intervention_steps,
        "messages": information["message_count"],
        "megabytes": round(size / 1e6, 2),
        "dropped": sum(count.dropped for count in labels.topics.values()),
    }


def _recovery_row(done: Recovery) -> dict[str, Any]:
    return {
        "path": done.path,
        "status": done.status.name.lower(),
        "messages": done.messages,
        "lost_messages": done.lost_messages,
        "lost_bytes": done.lost_bytes,
        "detail": done.detail,
    }


def _transition_row(bag: Path, robot: RobotContract, horizon: int, stride: int | None) -> dict[str, Any]:
    episode = read_episode(bag, robot)
    found = chunk_transitions(episode, horizon, max_length=1, failure_cost=1, stride=stride)
    return {
        "path": bag,
        "steps": episode.steps,
        **{source.name.lower(): int((found.source == source).sum()) for source in Source},
        "terminated": int(found.terminated.sum()),
        "truncated": int(found.truncated.sum()),
        "transitions": len(found),
    }

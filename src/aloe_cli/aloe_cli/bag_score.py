"""What `./aloe bag score` does: score bags by a checkpoint, print, draw and write the values beside them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aloe_cli.progress import progress
from aloe_core.checkpoint import latest
from aloe_core.contract import RobotContract
from aloe_core.episode.data import Source
from aloe_core.errors import AloeError
from aloe_critic.evaluation.plots import calibration_plot, episode_plot
from aloe_critic.evaluation.realised import Timeout, realised_returns
from aloe_critic.evaluation.report import evaluate
from aloe_critic.evaluation.scores import EpisodeScores, RewardScale, Scorer
from aloe_critic.evaluation.sidecar import SidecarWriter
from aloe_policy.runtime import load_models

HEADLINES = ("spearman", "ece", "slope", "bias", "auc_25", "auc_50", "auc_75", "ranking", "spread_error")


def score(
    bags: list[Path], checkpoint: Path, robot: RobotContract, out: Path | None, *, chunks: bool, timeout: Timeout
) -> dict[str, Any]:
    """Score `bags` and return what --json prints; AloeError if the checkpoint or every bag is of no use."""
    directory = latest(checkpoint) or checkpoint  # a folder of checkpoints means its current one
    scorer = Scorer(load_models(directory, robot), robot)
    target = out or Path("runs") / time.strftime("score-%Y%m%dT%H%M%SZ", time.gmtime())
    writer = SidecarWriter(target, scorer.version)
    taken = [target / f"{bag.name}_values" for bag in bags if (target / f"{bag.name}_values").exists()]
    if taken:
        raise AloeError(f"{taken[0]}: exists already, a bag is never overwritten; name another --out.")
    scores: list[EpisodeScores] = []
    rows: list[dict[str, Any]] = []
    unusable: dict[str, str] = {}
    with progress("scoring bags", len(bags)) as bar:
        for bag in bags:
            try:
                found = scorer.score_bag(bag)
            except AloeError as error:
                unusable[str(bag)] = str(error)
            else:
                target.mkdir(parents=True, exist_ok=True)
                picture = target / f"{bag.name}.png"
                episode_plot(found, scorer.scale, picture, timeout, f"{bag.name}: {_ending(found)}")
                row = _row(bag, found, scorer.scale, timeout)
                sidecar = writer.write(found, bag.name, str(found.episode.info.get("namespace", "/")))
                rows.append(row | {"plot": picture, "sidecar": sidecar})
                scores.append(found)
            bar.advance(note=bag.name)
    if not scores:
        raise AloeError(f"No usable bag among {len(bags)}; the first: {next(iter(unusable.values()))}")
    report = evaluate(scores, scorer.scale, critic_version=scorer.version, timeout=timeout)
    calibration_plot(scores, scorer.scale, target / "calibration.png", timeout)
    (target / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    _print(rows, scores, report, chunks=chunks)
    for reason in unusable.values():
        Console(stderr=True).print(f"set aside: {reason}", highlight=False, soft_wrap=True)
    print(f"{target}: report.json, calibration.png, a plot and a bag of values for each of {len(rows)} bags.")
    return {"out": target, "bags": rows, "unusable": unusable, "report": report}


def _ending(found: EpisodeScores) -> str:
    ep = found.episode
    return ep.outcome.name.lower() if ep.terminated else ep.end


def _row(bag: Path, found: EpisodeScores, scale: RewardScale, timeout: Timeout) -> dict[str, Any]:
    ep = found.episode
    first = float(realised_returns(ep, **asdict(scale), timeout=timeout)[0])
    return {
        "path": bag,
        "outcome": _ending(found),
        "seconds": round(ep.steps * ep.dt, 2),
        "policy_versions": sorted(set(ep.policy_versions)),
        "takeovers": [asdict(t) for t in found.takeovers],
        "return": first if first == first else None,  # NaN: not known
        "chunks": [
            {
                "step": int(found.start[i]),
                "steps": int(found.length[i]),
                "source": Source(int(found.source[i])).name.lower(),
                "q_pess": float(found.q_pess[i]),
                "q_mean": float(found.q_mean[i]),
                "q_std": float(found.q_std[i]),
                "v": float(found.v[i]),
                "advantage": float(found.advantage[i]),
            }
            for i in range(len(found.start))
        ],
    }


def _print(rows: list[dict[str, Any]], scores: list[EpisodeScores], report: dict[str, Any], *, chunks: bool) -> None:
    console = Console()
    if chunks:
        table = Table("bag", "s", "who", "Q", "mean", "std", "V", "A", box=None, pad_edge=False)
        for row, found in zip(rows, scores, strict=True):
            for c in row["chunks"]:
                values = (f"{c[key]:+.3f}" for key in ("q_pess", "q_mean", "q_std", "v", "advantage"))
                table.add_row(row["path"].name, f"{c['step'] * found.episode.dt:.2f}", c["source"], *values)
    else:
        titles = ("bag", "outcome", "s", "chunks", "takeovers", "return", "Q first", "Q last", "A policy", "A human")
        table = Table(*titles, box=None, pad_edge=False)
        for row, found in zip(rows, scores, strict=True):
            table.add_row(
                row["path"].name,
                row["outcome"],
                f"{row['seconds']:.1f}",
                str(len(found.start)),
                str(len(found.takeovers)),
                "-" if row["return"] is None else f"{row['return']:+.2f}",
                f"{found.q_pess[0]:+.2f}",
                f"{found.q_pess[-1]:+.2f}",
                _mean_advantage(found, Source.POLICY),
                _mean_advantage(found, Source.HUMAN),
            )
    console.print(table)
    summary = Table(
        "figure", "autonomous", "95 %", "all", "95 %", box=None, pad_edge=False, title=report["critic_version"]
    )
    for name in HEADLINES:
        summary.add_row(name, *(cell for part in ("autonomous", "all") for cell in _cells(report[part][name])))
    console.print(summary)


def _mean_advantage(found: EpisodeScores, source: Source) -> str:
    mine = found.advantage[found.source == source]
    return f"{mine.mean():+.3f}" if len(mine) else "-"


def _cells(figure: dict[str, Any]) -> tuple[str, str]:
    if figure["value"] is None:
        return "-", figure["reason"]
    interval = "-" if figure["low"] is None else f"{figure['low']:.2f} to {figure['high']:.2f}"
    return f"{figure['value']:.2f}", interval

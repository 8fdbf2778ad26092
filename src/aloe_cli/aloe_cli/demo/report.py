"""The demo's report folder and its one-line result."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from aloe_cli.demo.figures import ValueTrace, episode_gif, learning_curve, q_over_time, value_trace
from aloe_cli.demo.graph import Episodes
from aloe_cli.demo.loop import Story
from aloe_core.contract import RobotContract
from aloe_core.episode.bag import read_labels
from aloe_core.episode.data import EpisodeData, Outcome
from aloe_core.episode.reader import read_episode
from aloe_core.statistics import wilson


def result(story: Story, seed: int, wall: float) -> dict[str, Any]:
    """Everything measured, as the last line of the demo."""
    assert story.before is not None and story.after is not None
    bags = all_bags(story.out)
    rates = [i.episodes.intervention_rate for i in story.iterations]
    return {
        "task": f"{story.plan.task}/{story.plan.level}",
        "seeds": [seed],
        "sft_success": story.before.success_rate,
        "final_success": story.after.success_rate,
        "eval_episodes": len(story.after.outcomes),
        "intervention_rate_first": rates[0] if rates else None,
        "intervention_rate_last": rates[-1] if rates else None,
        "bags": len(bags),
        "transitions": story.transitions,
        "checkpoints_published": len(set(story.published)),
        "checkpoints_loaded": len(set(story.loaded)),
        "dropped_messages": sum(dropped(bag) for bag in bags),
        "wall_s": round(wall, 1),
        # What learning takes: demonstrations, supervision, training and swapping, without measuring.
        "learning_s": round(sum(s for phase, s in story.wall.items() if not phase.startswith("eval_")), 1),
        "report": str(story.out / "report" / "report.md"),
    }


def all_bags(out: Path) -> list[Path]:
    """Every finished bag of the demo."""
    return sorted(p.parent for p in (out / "bags").glob("*/*/metadata.yaml") if p.parent.parent.name != "trash")


def dropped(bag: Path) -> int:
    """Messages the recorder knows it lost."""
    return sum(count.dropped for count in read_labels(bag).topics.values())


def write(story: Story, contract: RobotContract, outcome: dict[str, Any]) -> Path:
    """Write report.md and its pictures; returns the folder."""
    folder = story.out / "report"
    folder.mkdir(exist_ok=True)
    learning_curve(story, folder / "learning_curve.png")
    told = _tell(story, contract)
    traced = [(title, e, t) for title, e, t in told if t is not None]
    if traced:
        q_over_time(traced, folder / "q_over_time.png")
    if told:
        _, episode, trace = told[0]
        episode_gif(episode, trace, folder / "episode.gif")
    (folder / "report.md").write_text(_markdown(story, outcome, bool(traced), bool(told)))
    (folder / "result.json").write_text(json.dumps(outcome, indent=1))
    return folder


def _tell(story: Story, contract: RobotContract) -> list[tuple[str, EpisodeData, ValueTrace | None]]:
    """The episodes worth showing: a supervised one with a takeover, a final success, a final failure."""
    assert story.after is not None
    chosen: list[tuple[str, str]] = []
    for iteration in reversed(story.iterations):
        helped = [p for p, n in zip(iteration.episodes.paths, iteration.episodes.human_steps, strict=True) if n]
        if helped:
            chosen.append(("supervised, with a takeover", helped[0]))
            break
    for name, wanted in (("success", True), ("failure", False)):
        for path, result_ in zip(story.after.paths, story.after.outcomes, strict=True):
            if (result_ == Outcome.SUCCESS) == wanted:
                chosen.append((f"final policy, {name}", path))
                break
    told = []
    for title, path in chosen:
        episode = read_episode(Path(path), contract)
        told.append((title, episode, value_trace(Path(path), episode)))
    return told


def _row(name: str, episodes: Episodes) -> str:
    count = len(episodes.outcomes)
    low, high = wilson(episodes.successes, count)
    length = sum(episodes.lengths) / max(1, count)
    return (
        f"| {name} | {count} | {episodes.success_rate:.2f} ({low:.2f} to {high:.2f}) | "
        f"{episodes.intervention_rate:.2f} | {length:.1f} |"
    )


def _markdown(story: Story, outcome: dict[str, Any], traced: bool, told: bool) -> str:
    assert story.demonstrations is not None and story.before is not None and story.after is not None
    rows = [_row("demonstrations", story.demonstrations), _row("warm start, autonomous", story.before)]
    rows += [_row(f"supervised round {i + 1}", it.episodes) for i, it in enumerate(story.iterations)]
    rows.append(_row("final policy, autonomous", story.after))
    parts = [
        f"# ALOE demo: {outcome['task']} ({story.plan.name})",
        f"Autonomous success on {outcome['eval_episodes']} unseen seeds: "
        f"**{outcome['sft_success']:.2f}** after cloning, "
        f"**{outcome['final_success']:.2f}** after {len(story.iterations)} ALOE iterations. "
        f"{outcome['bags']} bags, {outcome['checkpoints_published']} checkpoints published, "
        f"{outcome['checkpoints_loaded']} loaded by the running policy, "
        f"{outcome['dropped_messages']} messages dropped, "
        f"{outcome['wall_s']:.0f} s, {outcome['learning_s']:.0f} of them without measuring, on "
        f"{platform.machine()}, {_cores()} cores.",
        "| episodes | n | success (95 % Wilson) | human share of steps | mean length, s |\n|---|---|---|---|---|\n"
        + "\n".join(rows),
        "![learning curve](learning_curve.png)",
    ]
    if traced:
        parts.append("Blue: the policy drives; orange: the person.\n\n![Q over time](q_over_time.png)")
    if told:
        parts.append("![one episode](episode.gif)")
    for i, it in enumerate(story.iterations):
        metrics = "\n".join(f"| {k} | {v:.4g} |" for k, v in sorted(it.metrics.items()) if isinstance(v, (int, float)))
        parts.append(f"## Iteration {i + 1}: {it.version}\n\n| metric | value |\n|---|---|\n{metrics}")
    wall = "\n".join(f"| {name} | {seconds:.0f} |" for name, seconds in story.wall.items())
    parts.append(f"## Time\n\n| phase | s |\n|---|---|\n{wall}")
    return "\n\n".join(parts) + "\n"


def _cores() -> int:
    import os

    return os.cpu_count() or 1

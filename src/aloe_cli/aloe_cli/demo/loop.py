"""The demo's story, top down: demonstrate, clone, measure, {supervise, improve} repeatedly, measure."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from aloe_msgs.action import Train

from aloe_cli.demo.graph import Episodes, Graph
from aloe_cli.demo.plan import EVAL_SEED, Plan
from aloe_cli.progress import Stages


@dataclass
class Iteration:
    """One round of supervision and improvement."""

    episodes: Episodes
    version: str
    metrics: dict[str, object]


@dataclass
class Story:
    """Everything measured."""

    plan: Plan
    out: Path
    demonstrations: Episodes | None = None
    before: Episodes | None = None
    after: Episodes | None = None
    iterations: list[Iteration] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    transitions: int = 0
    wall: dict[str, float] = field(default_factory=dict)  # s per phase


def run(plan: Plan, graph: Graph, out: Path, seed: int) -> Story:
    """Run the whole loop on a running graph."""
    story = Story(plan, out)
    bc, aloe = plan.bc | {"seed": seed}, plan.aloe | {"seed": seed}
    bags = out / "bags"
    story.demonstrations = _episodes(
        story, graph, "demonstrations", _seeds(seed, 0, plan.demonstrations), "demonstrate"
    )
    _train(story, graph, "bc", [bags / "demonstrations"], bc)
    eval_seeds = [EVAL_SEED + i for i in range(plan.evaluated)]
    story.before = _episodes(story, graph, "eval_before", eval_seeds, "watch")
    used = plan.demonstrations
    folders = [bags / "demonstrations"]
    for i in range(plan.iterations):
        name = f"supervised_{i + 1}"
        episodes = _episodes(story, graph, name, _seeds(seed, used, plan.supervised), "supervise")
        used += plan.supervised
        folders.append(bags / name)
        result = _train(story, graph, "aloe_takeover", folders, aloe)
        story.iterations.append(Iteration(episodes, result.version, json.loads(result.metrics_json)))
    story.after = _episodes(story, graph, "eval_after", eval_seeds, "watch")
    return story


def _seeds(seed: int, first: int, count: int) -> list[int]:
    return [seed * 1000 + first + i for i in range(count)]


def _episodes(story: Story, graph: Graph, name: str, seeds: list[int], supervision: str) -> Episodes:
    start = time.monotonic()
    with Stages() as stages:

        def feedback(done: int, successes: int) -> None:
            stages.show(name.replace("_", " "), done, len(seeds), f"{successes} of {done} succeeded")

        plan = story.plan
        episodes = graph.run_episodes(plan.task, plan.level, seeds, supervision, story.out / "bags" / name, feedback)
        feedback(len(episodes.outcomes), episodes.successes)
    story.wall[name] = time.monotonic() - start
    return episodes


def _train(story: Story, graph: Graph, method: str, folders: list[Path], overrides: dict[str, object]) -> Train.Result:
    start = time.monotonic()
    with Stages() as stages:

        def feedback(phase: str, step: int, total: int) -> None:
            stages.show(f"training {len(story.published) + 1}, {phase}", step, total)

        result = graph.train(method, folders, overrides, feedback)
        story.transitions = max(story.transitions, int(result.transitions))
        story.published.append(result.version)
        story.loaded.append(graph.load(result.uri))
    story.wall[f"training {len(story.published)} ({method})"] = time.monotonic() - start
    return result

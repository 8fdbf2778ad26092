"""A small data set to measure critics on, made in the simulator: what they learn from, and what they never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_critic.job import Job
from aloe_critic.learners import hyper_of
from aloe_critic.learners import method as find_method
from aloe_critic.replay import Replay
from aloe_critic.trainer import publish
from aloe_policy.config import FlowConfig
from aloe_policy.runtime import load_models, load_runtime
from aloe_sim.rollout import run_episode
from aloe_sim.station import Station

Say = Callable[[str, int, int], None]  # what, done, of
UNSEEN_SEED = 500_000  # first seed of the held-out episodes
# Less than a policy for use takes, but enough that it succeeds now and then: with one outcome only there is no order.
QUICK = {
    "bc_steps": 250,
    "bc_head_steps": 1000,
    "actor_steps": 40,
    "actor_head_steps": 300,
    "critic_steps": 800,
    "refresh_steps": 400,
}


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    task: str = "sorting"
    level: str = "easy"
    demonstrations: int = 8
    supervised: int = 12  # episodes of the clone with a person beside it, which all critics learn from
    unseen: int = 20  # autonomous episodes of a policy that no critic saw, and half as many supervised ones
    overrides: dict[str, Any] | None = None


def make(
    plan: Plan, methods: list[str], contract: RobotContract, work: Path, say: Say
) -> tuple[list[EpisodeData], list[EpisodeData], Path]:
    """Publish a checkpoint of each method in `work`; return held-out episodes, alone and supervised, and their policy.

    Their policy is a clone of the successes, from other random numbers: close to those that were seen, but another.
    """
    torch.set_num_threads(1)
    station = Station(contract, plan.task, plan.level)
    try:
        seen = [
            _tell(say, "demonstrations", i, plan.demonstrations, run_episode(station, i, None, "demonstrate"))
            for i in range(plan.demonstrations)
        ]
        clone = _learn("bc", seen, None, plan, contract, work, say, seed=0)
        first, human = plan.demonstrations, "supervised episodes"
        seen += _drive(station, clone, range(first, first + plan.supervised), "supervise", human, contract, say)
        for name in methods:
            _learn(name, seen, clone, plan, contract, work, say, seed=0)
        other = _learn("filtered_bc", seen, clone, plan, contract, work / "unseen", say, seed=1)
        middle = UNSEEN_SEED + plan.unseen
        alone = _drive(station, other, range(UNSEEN_SEED, middle), "watch", "unseen policy", contract, say)
        helped = range(middle, middle + plan.unseen // 2)
        return alone, _drive(station, other, helped, "supervise", "unseen policy, supervised", contract, say), other
    finally:
        station.close()


def _drive(
    station: Station, checkpoint: Path, seeds: range, supervision: Any, what: str, contract: RobotContract, say: Say
) -> list[EpisodeData]:
    runtime = load_runtime(checkpoint, contract)
    return [
        _tell(say, what, i, len(seeds), run_episode(station, seed, runtime, supervision))
        for i, seed in enumerate(seeds)
    ]


def _tell(say: Say, what: str, number: int, of: int, episode: EpisodeData) -> EpisodeData:
    say(what, number + 1, of)
    return episode


def _learn(
    method: str,
    episodes: list[EpisodeData],
    start: Path | None,
    plan: Plan,
    contract: RobotContract,
    root: Path,
    say: Say,
    *,
    seed: int,
) -> Path:
    hyper = hyper_of(method, QUICK | (plan.overrides or {}) | {"threads": 1, "seed": seed}, contract)
    replay = Replay(contract, hyper.stride, FlowConfig.for_contract(contract).text_buckets)
    for episode in episodes:
        replay.add(episode)
    torch.manual_seed(hyper.seed)
    job = Job(contract, replay, hyper, lambda phase, step, steps, _: say(f"{method}: {phase}", step, steps))
    if start is not None:
        job.start_from(load_models(start, contract))
    learned = find_method(method)(job)
    root.mkdir(parents=True, exist_ok=True)
    return publish(root, method, learned, hyper, contract, start.name if start else "")

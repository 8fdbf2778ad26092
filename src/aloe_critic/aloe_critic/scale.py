"""Units of the values, and the critic that goes on learning in them."""

from __future__ import annotations

import math

from torch import Tensor

from aloe_core.episode.data import Outcome, Source
from aloe_critic.hyper import Hyper
from aloe_critic.job import Job
from aloe_critic.judged import Judged
from aloe_critic.replay import Replay, Windows
from aloe_critic.td import critic_config
from aloe_policy.critic import ChunkCritic, CriticConfig


def reward_scale(replay: Replay, hyper: Hyper) -> tuple[float, float]:
    """Return the longest episode and C_fail, in control steps."""
    steps = replay.lengths().float()
    success = replay.outcome(Outcome.SUCCESS)
    typical = float(steps[success].mean()) if success.any() else float(steps.mean())
    return hyper.max_length or float(steps.max()), hyper.failure_cost or typical


def kept_critic(job: Job, policy: Judged, **changes: object) -> tuple[ChunkCritic | None, tuple[float, float]]:
    """Return the job's critic if it is of the kind now wanted, else None, and the reward scale to use.

    A critic that goes on learning keeps its units, or its values would mean something else from round to round. One of
    another discount, or of other units than `hyper` names, is of no use; the job's notes then say why. How its heads
    are read (`pessimism`) is no part of what it learned, and is set anew.
    """
    if job.critic is None:
        return None, reward_scale(job.replay, job.hyper)
    wanted = critic_config(policy, job.hyper, **changes)
    job.critic.read_heads(wanted.pessimism)
    if other := _differences(job, job.critic, wanted):
        job.notes.append(f"The checkpoint's critic cannot go on learning ({', '.join(other)}): a new one begins.")
        return None, reward_scale(job.replay, job.hyper)
    return job.critic, job.reward_scale or reward_scale(job.replay, job.hyper)


def _differences(job: Job, critic: ChunkCritic, wanted: CriticConfig) -> list[str]:
    """Say why a critic cannot go on learning as `wanted`; empty if it can."""
    hyper, gamma = job.hyper, job.critic_gamma
    names = "max_length", "failure_cost"
    pairs = [(n, was, getattr(hyper, n) or was) for n, was in zip(names, job.reward_scale or (0.0, 0.0), strict=True)]
    if gamma is not None and not math.isclose(gamma, hyper.gamma, rel_tol=1e-9):
        pairs.append(("gamma", gamma, hyper.gamma))
    pairs += [(n, was, getattr(wanted, n)) for n, was in critic.config]
    return [f"{name} = {was}, now {now}" for name, was, now in pairs if was != now]


def value_metrics(q: Tensor, windows: Windows) -> dict[str, object]:
    """Mean and spread of Q_pess [N] for each driver."""
    found: dict[str, object] = {}
    for driver in (Source.POLICY, Source.HUMAN):
        mine = q[windows.source == int(driver)]
        if len(mine):
            name = driver.name.lower()
            found |= {f"q_{name}_mean": float(mine.mean()), f"q_{name}_std": float(mine.std(correction=0))}
    return found

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
from aloe_policy.critic import ChunkCritic


def reward_scale(replay: Replay, hyper: Hyper) -> tuple[float, float]:
    """Return the longest episode and C_fail, in control steps."""
    steps = replay.lengths().float()
    success = replay.outcome(Outcome.SUCCESS)
    typical = float(steps[success].mean()) if success.any() else float(steps.mean())
    return hyper.max_length or float(steps.max()), hyper.failure_cost or typical


def kept_critic(job: Job, policy: Judged, **changes: object) -> tuple[ChunkCritic | None, tuple[float, float]]:
    """Return the job's critic if it is of the kind now wanted, else None, and the reward scale to use.

    A critic that goes on learning keeps its units, or its values would mean something else from round to round. One of
    another discount, or of other units than `hyper` names, is of no use.
    """
    critic, hyper = job.critic, job.hyper
    if critic is not None:
        length, cost = job.reward_scale or (0.0, 0.0)
        other = (hyper.max_length or length, hyper.failure_cost or cost) != (length, cost)
        other |= job.critic_gamma is not None and not math.isclose(job.critic_gamma, hyper.gamma, rel_tol=1e-9)
        if other or critic.config != critic_config(policy, hyper, **changes):
            critic = None
    return critic, (critic is not None and job.reward_scale) or reward_scale(job.replay, job.hyper)


def value_metrics(q: Tensor, windows: Windows) -> dict[str, object]:
    """Mean and spread of Q_pess [N] for each driver."""
    found: dict[str, object] = {}
    for driver in (Source.POLICY, Source.HUMAN):
        mine = q[windows.source == int(driver)]
        if len(mine):
            name = driver.name.lower()
            found |= {f"q_{name}_mean": float(mine.mean()), f"q_{name}_std": float(mine.std(correction=0))}
    return found

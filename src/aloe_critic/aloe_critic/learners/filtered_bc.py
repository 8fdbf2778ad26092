"""Filtered cloning: imitate what went well."""

from __future__ import annotations

from torch import Tensor

from aloe_core.errors import AloeError
from aloe_critic.actor import actor as actor_of
from aloe_critic.imitate import Examples
from aloe_critic.job import Job, Learned
from aloe_critic.learners.select import NOTHING_GOOD, filtered
from aloe_critic.replay import Windows


def learn(job: Job) -> Learned:
    """Clone successful episodes, the policy's part included, and all corrections.

    Aggregated: every iteration fits all data so far, from the weights and for the steps that aloe's actor gets.
    """
    windows = job.replay.windows(gamma=job.hyper.gamma, max_length=1, failure_cost=1)
    return imitate(job, "filtered_bc", windows, filtered(job.replay, windows), NOTHING_GOOD)


def imitate(job: Job, method: str, windows: Windows, keep: Tensor, missing: str) -> Learned:
    """Refit the policy on the windows to keep; AloeError if there are none."""
    rows = keep.nonzero().squeeze(1)
    if len(rows) == 0:
        raise AloeError(f"Method {method}: {missing} among the bags; record or label some.")
    actor = actor_of(job, method)
    _, loss = actor.improve(Examples(windows, rows))
    return Learned(actor.policy, None, 1, None, {"actor_loss": loss, "windows": len(windows), "imitated": len(rows)})

"""HG-DAgger: imitate the person, who takes over when the policy errs (arXiv 1810.02890)."""

from __future__ import annotations

from aloe_critic.job import Job, Learned
from aloe_critic.learners.filtered_bc import imitate
from aloe_critic.learners.select import corrections, demonstrations


def learn(job: Job) -> Learned:
    """Clone successful demonstrations and all corrections; nothing that the policy did.

    Aggregated: every iteration fits all data so far, from the weights and for the steps that aloe's actor gets.
    """
    windows = job.replay.windows(gamma=job.hyper.gamma, max_length=1, failure_cost=1)
    keep = demonstrations(job.replay, windows) | corrections(job.replay, windows)
    return imitate(job, "hg_dagger", windows, keep, "no successful demonstration and no human segment")

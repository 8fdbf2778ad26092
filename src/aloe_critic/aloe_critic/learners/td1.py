"""Ablation: ALOE whose critic looks one observation ahead instead of one chunk."""

from __future__ import annotations

from dataclasses import replace

from aloe_critic.job import Job, Learned
from aloe_critic.learners.aloe import iterate
from aloe_critic.returns import one_step
from aloe_critic.td import fit_critic


def learn(job: Job) -> Learned:
    """ALOE with h = 1 in units of observations: the `stride` control steps between two windows.

    A single control step of 20 ms would show the critic the same picture again; --set stride=1 makes it that.
    """
    hyper, stride = job.hyper, job.replay.stride
    steps = min(stride, job.contract.chunk.execute)
    learned = iterate(
        job,
        "td1",
        fit_critic,
        cut=lambda windows, max_length: one_step(windows, stride, hyper.gamma, max_length),
        steps=steps,
    )
    return replace(learned, candidates=1)

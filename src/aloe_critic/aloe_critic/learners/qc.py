"""Q-chunking: behaviour cloning of everything, and the best of many chunks by Q (arXiv 2507.07969)."""

from __future__ import annotations

from dataclasses import replace

from aloe_critic.imitate import Examples, refit
from aloe_critic.job import Job, Learned
from aloe_critic.learners.select import driven_rows
from aloe_critic.scale import kept_critic
from aloe_critic.td import ChunkTable, fit_critic, new_critic, sample_bank

HEADS = {"pessimism": "mean"}  # the paper averages its two heads


def learn(job: Job) -> Learned:
    """Clone all that a policy or a person did; a' and the chunk that runs are the best of `qc_candidates` by mean Q.

    The critic gets the steps that aloe's two critic phases get together.
    """
    n = job.hyper.qc_candidates
    target = {"heads": job.hyper.qc_heads, "target": "mean", "target_pick": "max", "target_samples": n}
    job = replace(job, hyper=job.hyper.model_copy(update=target | HEADS))
    hyper = job.hyper
    critic, scale = kept_critic(job, job.needs_policy("qc"))
    windows = job.replay.windows(gamma=hyper.gamma, max_length=scale[0], failure_cost=scale[1])
    rows = driven_rows(windows, "qc")
    policy = job.policy_to_refit("qc")
    z, loss = refit(policy, job, Examples(windows, rows), "cloning")
    table = ChunkTable(windows, z, job.replay.state(), *scale)
    critic = critic or new_critic(policy, hyper, table)
    bank = sample_bank(policy, critic, table, hyper, n)
    metrics: dict[str, object] = {"windows": len(windows), "actor_loss": loss}
    metrics |= fit_critic(critic, policy, table, bank, job, hyper.critic_steps + hyper.refresh_steps)
    return Learned(policy, critic, n, scale, metrics)

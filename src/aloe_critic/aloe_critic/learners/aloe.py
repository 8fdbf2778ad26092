"""ALOE: evaluate chunks of the current policy off-policy, then imitate by advantage (arXiv 2602.12691)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from aloe_critic.actor import actor as actor_of
from aloe_critic.advantage import advantages, advantages_ahead, weigh
from aloe_critic.distil import fit_distilled, long_steps
from aloe_critic.imitate import Examples
from aloe_critic.job import Job, Learned
from aloe_critic.judged import Judged
from aloe_critic.learners.select import imitated_rows
from aloe_critic.replay import Windows
from aloe_critic.scale import kept_critic, value_metrics
from aloe_critic.td import ChunkTable, fit_critic, new_critic
from aloe_policy.critic import ChunkCritic

# Takes a person's word: a takeover says never, a correction counts as a whole, and what the policy did is imitated only
# where it ended in success without a person. A is taken head by head.
TAKEOVER = {"takeover": "never", "continuation": "segment", "imitated": "unaided", "advantage_of": "heads"}

# Fits the critic to windows: critic, policy, table, bank, job, steps, phase -> metrics.
Evaluate = Callable[[ChunkCritic, Judged, ChunkTable, Tensor, Job, int, str], dict[str, float]]


def learn(job: Job) -> Learned:
    """ALOE as published: one chunk sampled on the robot."""
    return replace(iterate(job, "aloe"), candidates=1)


def learn_select(job: Job) -> Learned:
    """ALOE, and on the robot the best of several sampled chunks by Q_pess."""
    return iterate(job, "aloe_select")


def learn_takeover(job: Job) -> Learned:
    """aloe_select with the hyperparameters of TAKEOVER, unless others are asked for."""
    return iterate(job, "aloe_takeover")


def iterate(
    job: Job,
    method: str,
    evaluate: Evaluate | None = None,
    cut: Callable[[Windows, float], Windows] = lambda windows, _max_length: windows,
    **critic_changes: object,
) -> Learned:
    """One iteration: critic, weights, policy, and the critic again on the new policy's chunks.

    Ablations change how the critic is fitted (None: by TD, over long chunks if `long_chunk` says so), or with `cut`
    (given max_length) what part of a window it scores.
    """
    hyper, actor = job.hyper, actor_of(job, method)
    policy = actor.policy
    if evaluate is None and hyper.long_chunk:
        evaluate, critic_changes["long_steps"] = fit_distilled, long_steps(job, policy)
    evaluate = evaluate or fit_critic
    critic, (max_length, failure_cost) = kept_critic(job, policy, **critic_changes)
    whole = job.replay.windows(gamma=hyper.gamma, max_length=max_length, failure_cost=failure_cost)
    rows = imitated_rows(job.replay, whole, method, hyper.imitated)
    windows = cut(whole, max_length)
    table = ChunkTable(windows, actor.features(), job.replay.state(), max_length, failure_cost)
    critic = critic or new_critic(policy, hyper, table, **critic_changes)

    metrics: dict[str, object] = {"windows": len(windows), "max_length": max_length, "failure_cost": failure_cost}
    bank = actor.bank(critic, table, hyper.bank)
    metrics |= evaluate(critic, policy, table, bank, job, hyper.critic_steps, "critic")
    advantage, q = advantages(critic, policy, table, bank[:, : hyper.value_samples], of=hyper.advantage_of)
    if hyper.advantage_steps:
        advantage = advantages_ahead(
            critic, replace(table, windows=whole), bank[:, : hyper.value_samples], job.replay.stride, hyper.gamma, hyper
        )
    weight, found = weigh(advantage[rows], windows.source[rows], hyper)
    metrics |= found | value_metrics(q, windows)

    z, metrics["actor_loss"] = actor.improve(Examples(windows, rows, weight))
    policy = actor.policy
    # On the robot the critic judges the new policy's chunks on its features.
    table = replace(table, z=z)
    bank = actor.bank(critic, table, hyper.bank)
    found = evaluate(critic, policy, table, bank, job, hyper.refresh_steps, "critic on new policy")
    metrics |= {f"{name}_new_policy": value for name, value in found.items()}
    return Learned(policy, critic, hyper.candidates, (max_length, failure_cost), metrics)

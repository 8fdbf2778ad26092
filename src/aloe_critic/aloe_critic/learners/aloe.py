"""ALOE: evaluate chunks of the current policy off-policy, then imitate by advantage (arXiv 2602.12691)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.advantage import advantage_weights, advantages, effective_size, fit_beta, scale_advantages
from aloe_critic.features import compute_features
from aloe_critic.hyper import Hyper
from aloe_critic.job import Job, Learned
from aloe_critic.learners import bc
from aloe_critic.replay import Replay
from aloe_critic.td import ChunkTable, fit_critic, new_critic, sample_bank
from aloe_policy.critic import ChunkCritic
from aloe_policy.model import FlowPolicy


def learn(job: Job) -> Learned:
    """ALOE as published: one chunk sampled on the robot."""
    return replace(learn_select(job), candidates=1)


def learn_select(job: Job) -> Learned:
    """ALOE, and on the robot the best of several sampled chunks by Q_pess."""
    hyper, policy = job.hyper, job.needs_policy("aloe")
    # A critic that goes on learning keeps its units, or its values would mean something else from round to round.
    scale = (job.critic is not None and job.reward_scale) or reward_scale(job.replay, hyper)
    max_length, failure_cost = scale
    windows = job.replay.windows(gamma=hyper.gamma, max_length=max_length, failure_cost=failure_cost)
    job.progress("features", 0, 1, 0.0)
    table = ChunkTable(windows, compute_features(policy, job.replay), job.replay.state())
    critic = job.critic or new_critic(policy, hyper, table)

    metrics: dict[str, object] = {"windows": len(windows), "max_length": max_length, "failure_cost": failure_cost}
    bank = sample_bank(policy, critic, table, hyper.bank)
    metrics |= fit_critic(critic, policy, table, bank, hyper, hyper.critic_steps, job.progress)
    weight, found = weigh(critic, policy, table, bank[:, : hyper.value_samples], hyper)
    metrics |= found
    drivers = torch.tensor([int(Source.POLICY), int(Source.HUMAN)], dtype=windows.source.dtype)
    rows = torch.isin(windows.source, drivers).nonzero().squeeze(1)  # nobody wants to imitate a hold
    if len(rows) == 0:
        raise AloeError("ALOE: no step of a policy or a person among the bags; record some first.")
    weight = weight[rows]
    bc.fit(policy, job, windows, rows, steps=hyper.actor_steps, lr=hyper.actor_lr, weight=weight, phase="actor")
    # The encoder moved with the policy, and on the robot the critic judges the new policy's chunks.
    table = ChunkTable(windows, compute_features(policy, job.replay), table.state)
    metrics["actor_loss"] = bc.fit_head(
        policy,
        job,
        windows,
        rows,
        table.z,
        steps=hyper.actor_head_steps,
        lr=hyper.head_lr,
        weight=weight,
        phase="actor, head",
    )
    bank = sample_bank(policy, critic, table, hyper.bank)
    found = fit_critic(critic, policy, table, bank, hyper, hyper.refresh_steps, job.progress, "critic on new policy")
    metrics |= {f"{name}_new_policy": value for name, value in found.items()}
    return Learned(policy, critic, hyper.candidates, scale, metrics)


def reward_scale(replay: Replay, hyper: Hyper) -> tuple[float, float]:
    """Return the longest episode and C_fail, in control steps."""
    steps = torch.tensor([float(ep.steps) for ep in replay.episodes])
    success = replay.outcome(Outcome.SUCCESS)
    typical = float(steps[success].mean()) if success.any() else float(steps.mean())
    return hyper.max_length or float(steps.max()), hyper.failure_cost or typical


def weigh(
    critic: ChunkCritic, policy: FlowPolicy, table: ChunkTable, bank: Tensor, hyper: Hyper
) -> tuple[Tensor, dict[str, object]]:
    """Return w [N] with mean 1, and what an operator should see of it."""
    advantage, q = advantages(critic, policy, table, bank)
    scaled = scale_advantages(advantage, hyper.advantage_scale)
    beta = fit_beta(scaled, hyper)
    weight = advantage_weights(scaled, beta, hyper.epsilon)
    clipped = float(((scaled / beta).abs() >= hyper.epsilon).float().mean())
    metrics: dict[str, object] = {
        "beta": beta,
        "effective_size": effective_size(weight),
        "clipped": clipped,
        "advantage_std": float(advantage.std()),
    }
    share = weight / weight.sum()
    for source in (Source.POLICY, Source.HUMAN):
        mine = table.windows.source == int(source)
        if mine.any():
            name = source.name.lower()
            metrics[f"q_{name}_mean"], metrics[f"q_{name}_std"] = (
                float(q[mine].mean()),
                float(q[mine].std(correction=0)),
            )
            metrics[f"advantage_{name}"] = float(advantage[mine].mean())
            metrics[f"weight_share_{name}"] = float(share[mine].sum())
    return weight / weight.mean(), metrics

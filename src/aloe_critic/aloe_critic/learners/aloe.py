"""ALOE: evaluate chunks of the current policy off-policy, then imitate by advantage (arXiv 2602.12691)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from aloe_core.episode.data import Outcome, Source
from aloe_critic.advantage import advantage_weights, advantages, effective_size, fit_beta
from aloe_critic.features import compute_features
from aloe_critic.hyper import Hyper
from aloe_critic.job import Job, Learned, check_finite
from aloe_critic.replay import Replay
from aloe_critic.td import ChunkTable, fit_critic, new_critic
from aloe_policy.critic import ChunkCritic
from aloe_policy.model import FlowPolicy


def learn(job: Job) -> Learned:
    """ALOE as published: one chunk sampled on the robot."""
    return replace(learn_select(job), candidates=1)


def learn_select(job: Job) -> Learned:
    """ALOE, and on the robot the best of several sampled chunks by Q_pess."""
    hyper, policy = job.hyper, job.needs_policy("aloe")
    max_length, failure_cost = reward_scale(job.replay, hyper)
    windows = job.replay.windows(gamma=hyper.gamma, max_length=max_length, failure_cost=failure_cost)
    job.progress("features", 0, 1, 0.0)
    table = ChunkTable(windows, compute_features(policy, job.replay), job.replay.state())
    critic = job.critic or new_critic(policy, hyper, table)

    metrics: dict[str, object] = {"windows": len(windows), "max_length": max_length, "failure_cost": failure_cost}
    metrics |= fit_critic(critic, policy, table, hyper, hyper.critic_steps, job.progress)
    weight, found = weigh(critic, policy, table, hyper)
    metrics |= found
    metrics["actor_loss"] = improve(policy, table, weight, hyper, job)
    fit_critic(critic, policy, table, hyper, hyper.refresh_steps, job.progress, "critic on new policy")
    return Learned(policy, critic, hyper.candidates, metrics)


def reward_scale(replay: Replay, hyper: Hyper) -> tuple[float, float]:
    """Return the longest episode and C_fail, in control steps."""
    steps = torch.tensor([float(ep.steps) for ep in replay.episodes])
    success = replay.outcome(Outcome.SUCCESS)
    typical = float(steps[success].mean()) if success.any() else float(steps.mean())
    return hyper.max_length or float(steps.max()), hyper.failure_cost or typical


def weigh(critic: ChunkCritic, policy: FlowPolicy, table: ChunkTable, hyper: Hyper) -> tuple[Tensor, dict[str, object]]:
    """Return w [N] with mean 1, and what an operator should see of it."""
    advantage, q = advantages(critic, policy, table, hyper.value_samples)
    scaled = advantage / advantage.std().clamp_min(1e-6)
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
            metrics[f"q_{name}_mean"], metrics[f"q_{name}_std"] = float(q[mine].mean()), float(q[mine].std(correction=0))
            metrics[f"advantage_{name}"] = float(advantage[mine].mean())
            metrics[f"weight_share_{name}"] = float(share[mine].sum())
    return weight / weight.mean(), metrics


def improve(policy: FlowPolicy, table: ChunkTable, weight: Tensor, hyper: Hyper, job: Job) -> float:
    """Weighted flow matching of the head on frozen features, L = E_D[w * flow loss]; returns the last loss."""
    w = table.windows
    optimizer = torch.optim.AdamW(policy.head.parameters(), lr=hyper.actor_lr, weight_decay=1e-4, fused=True)
    policy.head.train()
    mean = 0.0
    for step in range(hyper.actor_steps):
        # Drawing in proportion to w is the same expectation as multiplying by it, with less variance.
        pick = torch.multinomial(weight, hyper.actor_batch, replacement=True)
        obs = w.obs[pick]
        loss = policy.flow_loss(table.z[obs], table.state[obs], w.chunk[pick], w.plan_length[pick]).mean()
        check_finite(loss, "actor", step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.head.parameters(), hyper.clip)
        optimizer.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if step % 20 == 19 or step == hyper.actor_steps - 1:
            job.progress("actor", step + 1, hyper.actor_steps, mean)
    policy.head.eval()
    return mean

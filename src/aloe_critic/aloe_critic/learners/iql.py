"""Implicit Q-learning on chunks: an expectile of Q over the data's own chunks is the value (arXiv 2110.06169)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from aloe_critic.advantage import shares
from aloe_critic.expectile import expectile_loss
from aloe_critic.features import compute_features
from aloe_critic.imitate import Examples, refit
from aloe_critic.job import Job, Learned
from aloe_critic.learners.select import driven_rows
from aloe_critic.loop import Phase
from aloe_critic.replay.drawing import drawing
from aloe_critic.returns import least_return
from aloe_critic.scale import kept_critic, value_metrics
from aloe_critic.td import ChunkTable, CriticFit, data_tokens, new_critic
from aloe_critic.values import ValueNet
from aloe_policy.critic import ChunkCritic
from aloe_policy.model import FlowPolicy


def learn(job: Job) -> Learned:
    """w = min(exp(beta A / std(A)), cap), A = Q(s, a) - V(s); no chunk of the policy is ever evaluated.

    Checkpoints hold no V: where their critic goes on learning, a new V is first fitted to it.
    """
    hyper, policy = job.hyper, job.needs_policy("iql")
    critic, scale = kept_critic(job, policy)
    windows = job.replay.windows(gamma=hyper.gamma, max_length=scale[0], failure_cost=scale[1])
    rows = driven_rows(windows, "iql")
    table = ChunkTable(windows, compute_features(policy, job.replay), job.replay.state(), *scale)
    known, critic = critic is not None, critic or new_critic(policy, hyper, table)
    value = ValueNet(policy.feature_dim, hyper.critic_width, 1).to(job.device)
    metrics: dict[str, object] = {"windows": len(windows)}
    if known:
        metrics["value_loss"] = fit_v(critic, value, policy, table, job)
    else:
        nn.init.constant_(value[-1].bias, float(critic.out.bias.detach().mean()))  # type: ignore[arg-type]  # alike
    metrics["critic_loss"] = fit_q_and_v(critic, value, policy, table, job, hyper.critic_steps, "critic and value")

    with torch.no_grad():
        z = table.z[windows.obs.to(job.device)]
        q = critic.pessimistic(critic(z, data_tokens(policy, critic, table))).squeeze(-1)
        advantage = (q - value(z).squeeze(-1)).cpu()[rows]
        q = q.cpu()
    exponent = advantage.div(advantage.std().clamp_min(1e-6)).mul(hyper.iql_beta).clamp_max(math.log(hyper.iql_cap))
    weight = (exponent - exponent.max()).exp()  # windows are drawn in proportion: a common factor changes nothing
    metrics |= shares(weight, advantage, windows.source[rows]) | value_metrics(q, windows)

    policy = job.policy_to_refit("iql")
    z, metrics["actor_loss"] = refit(policy, job, Examples(windows, rows, weight))
    table = replace(table, z=z)
    fit_q_and_v(critic, value, policy, table, job, hyper.refresh_steps, "critic on new features")
    return Learned(policy, critic, 1, scale, metrics)


def fit_v(critic: ChunkCritic, value: ValueNet, policy: FlowPolicy, table: ChunkTable, job: Job) -> float:
    """Regress a new V on an expectile of Q_pess of a critic that stays as it is, at replayed chunks."""
    hyper, w = job.hyper, table.windows
    obs = w.obs.to(job.device)
    with torch.no_grad():
        q = critic.pessimistic(critic(table.z[obs], data_tokens(policy, critic, table))).squeeze(-1)
    draw = drawing(job.replay, w, hyper, torch.arange(len(w)))
    batch: dict[str, Tensor] = {}

    def loss(_step: int) -> Tensor:
        pick = draw(hyper.critic_batch).to(job.device)
        batch.update(window=pick, z=table.z[obs[pick]], q=q[pick])
        return expectile_loss(batch["q"] - value(batch["z"]).squeeze(-1), hyper.iql_expectile).mean()

    optimizer = torch.optim.AdamW(value.parameters(), lr=hyper.critic_lr, fused=True)
    phase = Phase("value of the critic so far", {"value": value}, optimizer, hyper.value_steps, loss, hyper.clip, batch)
    return job.loop.run(phase)


def fit_q_and_v(
    critic: ChunkCritic, value: ValueNet, policy: FlowPolicy, table: ChunkTable, job: Job, steps: int, phase: str
) -> float:
    """Regress Q_i on r + discount V(s') and V on an expectile of the target's Q_pess at replayed chunks."""
    if steps == 0:
        return 0.0
    hyper, w = job.hyper, table.windows
    executed = data_tokens(policy, critic, table)
    fitting = CriticFit(critic, hyper)
    draw = drawing(job.replay, w, hyper, torch.arange(len(w)))
    obs, after, reward, discount = (t.to(job.device) for t in (w.obs, w.next_obs, w.reward, w.discount))
    least = least_return(hyper.gamma, table.max_length, table.failure_cost)
    batch: dict[str, Tensor] = {}

    def loss(_step: int) -> Tensor:
        pick = draw(hyper.critic_batch).to(job.device)
        z, tokens = table.z[obs[pick]], executed[pick]
        with torch.no_grad():
            y = reward[pick] + discount[pick] * value(table.z[after[pick]]).squeeze(-1)
            y = y.clamp(least, 0.0) if hyper.bounded_target else y
            q = critic.pessimistic(fitting.target(z, tokens)).squeeze(-1)
        batch.update(window=pick, z=z, chunk=tokens, y=y, q=q)
        v_loss = expectile_loss(q - value(z).squeeze(-1), hyper.iql_expectile).mean()
        return fitting.loss(z, tokens, y[None]) + v_loss

    trained = [p for p in (*critic.parameters(), *value.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=hyper.critic_lr, fused=True)
    modules = {"critic": critic, "target": fitting.target, "value": value}
    return job.loop.run(Phase(phase, modules, optimizer, steps, loss, hyper.clip, batch, after=fitting.follow))

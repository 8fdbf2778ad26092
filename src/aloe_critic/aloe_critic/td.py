"""Chunked temporal-difference evaluation of the current policy (ALOE, arXiv 2602.12691)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from aloe_critic.hyper import Hyper
from aloe_critic.job import Progress, check_finite
from aloe_critic.replay import Windows
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.model import FlowPolicy


@dataclass
class ChunkTable:
    """Windows with their frozen features: all a critic or a policy head needs."""

    windows: Windows
    z: Tensor  # float32 [rows, Z]
    state: Tensor  # float32 [rows, J]


def new_critic(policy: FlowPolicy, hyper: Hyper, table: ChunkTable) -> ChunkCritic:
    """Return an untrained critic that sees actions in the scale of the data."""
    c = policy.config
    critic = ChunkCritic(
        CriticConfig(
            feature_dim=policy.feature_dim,
            action_dim=c.action_dim,
            steps=c.execute,
            knot_stride=c.knot_stride,
            heads=hyper.heads,
            width=hyper.critic_width,
            layers=hyper.critic_layers,
        )
    )
    w = table.windows
    anchor = table.state[w.obs] * policy.relative
    knots = w.chunk[:, critic.rows] - anchor[:, None]
    critic.action_mean.copy_(knots.mean(0))
    critic.action_std.copy_(knots.std(0).clamp_min(0.005))
    return critic


def aggregate(q: Tensor, how: str) -> Tensor:
    """Ensemble [K, ...] to [1 or K, ...]: the pessimistic minimum, the mean, or each head for itself."""
    if how == "min":
        return q.min(0, keepdim=True).values
    return q.mean(0, keepdim=True) if how == "mean" else q


@torch.no_grad()
def td_target(reward: Tensor, discount: Tensor, next_q: Tensor, *, target: str = "min", pick: str = "mean") -> Tensor:
    """y = r + discount * Q(s', a'): reward, discount [B], next_q [K, B, samples] -> [1 or K, B].

    `discount` is gamma^length and 0 where the episode terminated; a cut chunk (takeover, time-out) bootstraps.
    """
    q = aggregate(next_q, target)
    q = q.mean(-1) if pick == "mean" else q.max(-1).values
    return reward + discount * q


@torch.no_grad()
def sample_bank(policy: FlowPolicy, critic: ChunkCritic, table: ChunkTable, n: int, batch: int = 256) -> Tensor:
    """n chunks of the current policy at every observation row, as critic tokens [rows, n, D]; each runs in full.

    The policy stands still while the critic is fitted, so its chunks are drawn once and not at every step.
    """
    parts = []
    for z, state in zip(table.z.split(batch), table.state.split(batch), strict=True):
        chunks = policy.decode_actions(policy.sample_knots(z, n), state)
        length = torch.full((z.shape[0],), critic.config.steps)
        parts.append(critic.encode(chunks, state * policy.relative, length))
    return torch.cat(parts)


def data_tokens(policy: FlowPolicy, critic: ChunkCritic, table: ChunkTable, pick: Tensor) -> Tensor:
    """Replayed chunks as critic tokens, [B, 1, D], with their executed length."""
    w = table.windows
    anchor = table.state[w.obs[pick]] * policy.relative
    return critic.encode(w.chunk[pick][:, None], anchor, w.length[pick])


def fit_critic(
    critic: ChunkCritic,
    policy: FlowPolicy,
    table: ChunkTable,
    bank: Tensor,
    hyper: Hyper,
    steps: int,
    progress: Progress,
    phase: str = "critic",
) -> dict[str, float]:
    """TD regression of Q_i on y with a' drawn from `bank` (sample_bank). No gradient reaches the policy."""
    target = copy.deepcopy(critic)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=hyper.critic_lr, fused=True)
    w = table.windows
    loss_mean, q_mean = 0.0, 0.0
    executed = data_tokens(policy, critic, table, torch.arange(len(w)))
    for step in range(steps):
        pick = torch.randint(len(w), (hyper.critic_batch,))
        after = w.next_obs[pick]
        drawn = torch.randint(bank.shape[1], (hyper.critic_batch, hyper.target_samples))
        with torch.no_grad():
            y = td_target(
                w.reward[pick],
                w.discount[pick],
                target(table.z[after], bank[after[:, None], drawn]),
                target=hyper.target,
                pick=hyper.target_pick,
            )
        q = critic(table.z[w.obs[pick]], executed[pick]).squeeze(-1)
        loss = (q - y).square().mean(1).sum()
        check_finite(loss, phase, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(critic.parameters(), hyper.clip)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(critic.parameters()), hyper.tau)
        loss_mean = loss.item() if step == 0 else 0.98 * loss_mean + 0.02 * loss.item()
        q_mean = q.mean().item()
        if step % 20 == 19 or step == steps - 1:
            progress(phase, step + 1, steps, loss_mean)
    return {"critic_loss": loss_mean, "q_mean": q_mean}

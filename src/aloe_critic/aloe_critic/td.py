"""Chunked temporal-difference evaluation of the current policy (ALOE, arXiv 2602.12691)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aloe_core.episode.data import Source
from aloe_critic import distributed
from aloe_critic.hyper import Hyper
from aloe_critic.job import Job
from aloe_critic.judged import Judged
from aloe_critic.loop import Phase
from aloe_critic.precision import autocast
from aloe_critic.replay import Windows
from aloe_critic.replay.drawing import drawing
from aloe_critic.returns import least_return, successors, taken_over
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.model import FlowPolicy

_ROWS = 256  # observations whose chunks are drawn at once


@dataclass
class ChunkTable:
    """Windows with their frozen features: all a critic or a policy head needs."""

    windows: Windows
    z: Tensor  # float32 [rows, Z], where networks learn; all else is on the CPU
    state: Tensor  # float32 [rows, J]
    max_length: float  # control steps by which the windows' rewards are divided
    failure_cost: float  # C_fail, control steps


def critic_config(policy: Judged, hyper: Hyper, **changes: object) -> CriticConfig:
    """Return the critic that `hyper` asks for, with `changes` on top."""
    c = policy.config
    wanted: dict[str, object] = {
        "feature_dim": policy.feature_dim,
        "action_dim": c.action_dim,
        "steps": c.execute if hyper.scored == "prefix" else c.horizon,
        "knot_stride": c.knot_stride,
        "heads": hyper.heads,
        "width": hyper.critic_width,
        "layers": hyper.critic_layers,
        "shared_trunk": hyper.shared_trunk,
        "prior": hyper.prior_scale,
        "pessimism": hyper.pessimism,
    }
    return CriticConfig.model_validate(wanted | changes)


def new_critic(policy: Judged, hyper: Hyper, table: ChunkTable, **changes: object) -> ChunkCritic:
    """Return an untrained critic that sees actions in the scale of the data."""
    critic = ChunkCritic(critic_config(policy, hyper, **changes))
    w = table.windows
    anchor = table.state[w.obs] * policy.relative.cpu()
    for one in (critic, critic.long):
        if one is None:
            continue
        knots = w.chunk[:, one.rows] - anchor[:, None]
        one.action_mean.copy_(knots.mean(0))
        one.action_std.copy_(knots.std(0).clamp_min(0.005))
        if hyper.initial_value == "never":
            torch.nn.init.constant_(one.out.bias, least_return(hyper.gamma, table.max_length, table.failure_cost))
    return critic.to(table.z.device)


def aggregate(q: Tensor, how: str) -> Tensor:
    """Ensemble [K, ...] to [1 or K, ...]: the pessimistic minimum, lower quartile, mean, or each head for itself."""
    if how == "min":
        return q.min(0, keepdim=True).values
    if how == "quantile":
        return q.quantile(0.25, dim=0, keepdim=True)
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
def sample_bank(policy: FlowPolicy, critic: ChunkCritic, table: ChunkTable, hyper: Hyper, n: int) -> Tensor:
    """n chunks of the current policy at every observation row, as critic tokens [rows, n, D]; each runs in full.

    The policy stands still while the critic is fitted, so its chunks are drawn once and not at every step.
    """
    parts = []
    for z, near in zip(table.z.split(_ROWS), table.state.split(_ROWS), strict=True):
        state = near.to(z.device)
        with autocast(hyper):
            knots = policy.sample_knots(z, n).float()
        chunks = policy.decode_actions(knots, state)
        length = torch.full((z.shape[0],), critic.config.steps, device=z.device)
        parts.append(critic.encode(chunks, state * policy.relative, length))
    return torch.cat(parts)


def data_tokens(policy: Judged, critic: ChunkCritic, table: ChunkTable, pick: Tensor | None = None) -> Tensor:
    """Replayed chunks of windows `pick` (None = all) as critic tokens [B, 1, D], with the length that ran."""
    w, device = table.windows, table.z.device
    pick = torch.arange(len(w)) if pick is None else pick
    anchor = table.state[w.obs[pick]].to(device) * policy.relative.to(device)
    # A critic of longer chunks is told how far their source really went on, beyond the prefix of the transition.
    ran = w.plan_length if critic.config.steps > policy.config.execute else w.length
    length = ran[pick].clamp_max(critic.config.steps).to(device)
    return critic.encode(w.chunk[pick][:, None].to(device), anchor, length)


class CriticFit:
    """Regression of all heads on targets, and the Polyak copy from which targets may be computed."""

    def __init__(self, critic: ChunkCritic, hyper: Hyper) -> None:
        self.critic, self.hyper = critic, hyper
        self.target = copy.deepcopy(critic).requires_grad_(False)
        self._pairs = list(self.target.parameters()), list(critic.parameters())

    def loss(self, z: Tensor, tokens: Tensor, y: Tensor) -> Tensor:
        """Sum over heads of the mean squared error: z [B, Z], tokens [B, 1, D], y [1 or K, B]."""
        with autocast(self.hyper):
            q = self.critic(z, tokens)
        return (q.squeeze(-1) - y).square().mean(1).sum()

    @torch.no_grad()
    def follow(self) -> None:
        """One Polyak step of the target."""
        torch._foreach_lerp_(*self._pairs, self.hyper.tau)


Target = Callable[[ChunkCritic, Tensor], Tensor]  # target network, windows [B] where it is -> y [1 or K, B]


def fit_q(
    critic: ChunkCritic,
    table: ChunkTable,
    job: Job,
    target: Target,
    executed: Tensor,
    steps: int,
    phase: str,
    rows: Tensor | None = None,
) -> dict[str, float]:
    """Regression of Q_i at replayed chunks, `executed` = data_tokens, of windows `rows` (None = all) on `target`."""
    if steps == 0:
        return {}
    hyper, w = job.hyper, table.windows
    rows = torch.arange(len(w)) if rows is None else rows
    fitting = CriticFit(critic, hyper)
    draw = drawing(job.replay, w, hyper, rows)
    obs = w.obs.to(job.device)
    batch: dict[str, Tensor] = {}

    def loss(_step: int) -> Tensor:
        pick = draw(hyper.critic_batch).to(job.device)
        with torch.no_grad(), autocast(hyper):
            y = target(fitting.target, pick)
        pick, y = distributed.share(pick), distributed.share(y.T).T
        batch.update(window=pick, z=table.z[obs[pick]], chunk=executed[pick], y=y)
        return fitting.loss(batch["z"], batch["chunk"], batch["y"])

    optimizer = torch.optim.AdamW([p for p in critic.parameters() if p.requires_grad], lr=hyper.critic_lr, fused=True)
    modules = {"critic": critic, "target": fitting.target}
    last = job.loop.run(Phase(phase, modules, optimizer, steps, loss, hyper.clip, batch, after=fitting.follow))
    with torch.no_grad(), autocast(hyper):
        q = torch.cat([critic(table.z[obs[p]], executed[p]).mean(0).flatten() for p in rows.to(job.device).split(4096)])
    return {"critic_loss": last, "q_mean": float(q.mean())}


def fit_critic(
    critic: ChunkCritic,
    policy: Judged,
    table: ChunkTable,
    bank: Tensor,
    job: Job,
    steps: int,
    phase: str = "critic",
) -> dict[str, float]:
    """TD regression of Q_i on y with a' drawn from `bank` (sample_bank). No gradient reaches the policy."""
    executed = data_tokens(policy, critic, table)
    target = td_targets(table, bank, job.hyper, executed)
    return fit_q(critic, table, job, target, executed, steps, phase)


def td_targets(table: ChunkTable, bank: Tensor, hyper: Hyper, executed: Tensor) -> Target:
    """Return what computes y of windows from a target network and chunks a' of `bank` [rows, n, D].

    `executed` [N, 1, D]: data_tokens of the same critic.
    """
    w, device = table.windows, table.z.device
    next_obs, reward, discount = (t.to(device) for t in (w.next_obs, w.reward, w.discount))
    everything = hyper.target_samples >= bank.shape[1]
    least = least_return(hyper.gamma, table.max_length, table.failure_cost)
    lost = taken_over(w).to(device) if hyper.takeover == "never" else None
    going_on = None
    if hyper.continuation == "segment":
        after_it = successors(w)
        human = w.source == int(Source.HUMAN)
        going_on = (human & (after_it >= 0) & human[after_it.clamp_min(0)]).to(device)
        following = after_it.to(device)

    def target(network: ChunkCritic, pick: Tensor) -> Tensor:
        after = next_obs[pick]
        if everything:
            chunks = bank[after]
        else:
            drawn = torch.randint(bank.shape[1], (len(pick), hyper.target_samples)).to(device)
            chunks = bank[after[:, None], drawn]
        if going_on is not None:
            same = going_on[pick]
            chunks[same] = executed[following[pick[same]]].expand(-1, chunks.shape[1], -1)
        next_q = network(table.z[after], chunks)
        y = td_target(reward[pick], discount[pick], next_q, target=hyper.target, pick=hyper.target_pick)
        if lost is not None:
            y = torch.where(lost[pick], reward[pick] + discount[pick] * least, y)
        return y.clamp(least, 0.0) if hyper.bounded_target else y

    return target

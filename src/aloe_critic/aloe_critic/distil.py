"""Distilled short-chunk critic: TD over long chunks, judgement of short ones (DQC, arXiv 2512.10926).

    y    = sum_{k<H} gamma^k r_{t+k} + gamma^H (1 - terminated) Q_short(s_{t+H}, a'),   a' ~ policy
    long   Q_long(s, a_{t:t+H})  regresses on y
    short  Q_short(s, a_{t:t+h})  regresses on an expectile of Q_long(s, a_{t:t+H}) over how such chunks went on

The policy acts in h steps, rewards travel H at a time. Where the paper backs up a quantile of the data's values, a' is
a chunk of the current policy, as everywhere in ALOE (docs/adr/0019-distilled-critic.md).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from aloe_core.errors import AloeError
from aloe_critic import distributed
from aloe_critic.expectile import expectile_loss
from aloe_critic.job import Job
from aloe_critic.judged import Judged
from aloe_critic.loop import Phase
from aloe_critic.precision import autocast
from aloe_critic.replay.drawing import drawing
from aloe_critic.returns import longer
from aloe_critic.td import ChunkTable, CriticFit, critic_config, data_tokens, td_targets
from aloe_policy.critic import ChunkCritic


def long_steps(job: Job, policy: Judged) -> int:
    """Return the steps of the long chunks; AloeError if they do not fit stride, prefix and horizon."""
    steps, stride = job.hyper.long_chunk, job.replay.stride
    scored, horizon = critic_config(policy, job.hyper).steps, policy.config.horizon
    if steps % stride or not scored < steps <= horizon:
        raise AloeError(
            f"long_chunk = {steps}: expected a multiple of the stride of {stride}, more than the {scored} steps "
            f"that the critic scores and at most the horizon of {horizon}."
        )
    return steps


def fit_distilled(
    critic: ChunkCritic, policy: Judged, table: ChunkTable, bank: Tensor, job: Job, steps: int, phase: str
) -> dict[str, float]:
    """Fit `critic.long` by TD and each head of `critic` to the same head of it, together, as the paper does."""
    if steps == 0:
        return {}
    assert critic.long is not None
    hyper, long = job.hyper, critic.long
    w = longer(table.windows, job.replay.stride, hyper.gamma, table.max_length, long.config.steps)
    short_tokens, long_tokens = (data_tokens(policy, one, table) for one in (critic, long))
    target = td_targets(replace(table, windows=w), bank, hyper, short_tokens)
    fitting = CriticFit(critic, hyper)
    draw = drawing(job.replay, w, hyper, torch.arange(len(w)))
    obs = w.obs.to(job.device)
    batch: dict[str, Tensor] = {}

    def loss(_step: int) -> Tensor:
        pick = draw(hyper.critic_batch).to(job.device)
        with torch.no_grad(), autocast(hyper):
            y = target(fitting.target, pick)
        pick, y = distributed.share(pick), distributed.share(y.T).T
        z = table.z[obs[pick]]
        batch.update(window=pick, z=z, chunk=short_tokens[pick], long_chunk=long_tokens[pick], y=y)
        with autocast(hyper):
            q_long = long(z, batch["long_chunk"]).squeeze(-1)
            q = critic(z, batch["chunk"]).squeeze(-1)
        return (q_long - batch["y"]).square().mean(1).sum() + distillation(q, q_long, hyper.distil_expectile)

    optimizer = torch.optim.AdamW([p for p in critic.parameters() if p.requires_grad], lr=hyper.critic_lr, fused=True)
    modules = {"critic": critic, "target": fitting.target}
    last = job.loop.run(Phase(phase, modules, optimizer, steps, loss, hyper.clip, batch, after=fitting.follow))
    with torch.no_grad(), autocast(hyper):
        every = torch.arange(len(w), device=job.device).split(4096)
        means = {
            name: float(torch.cat([one(table.z[obs[p]], tokens[p]).mean(0).flatten() for p in every]).mean())
            for name, one, tokens in (("q_mean", critic, short_tokens), ("q_long_mean", long, long_tokens))
        }
    return {"critic_loss": last} | means


def distillation(q: Tensor, q_long: Tensor, expectile: float) -> Tensor:
    """Sum over heads of the expectile loss of short values q [K, B] under long ones [K, B], which it leaves alone."""
    return expectile_loss(q_long.detach() - q, expectile).mean(1).sum()

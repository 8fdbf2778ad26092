"""Advantages of replayed chunks and the weights they get (ALOE, arXiv 2602.12691)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from aloe_core.episode.data import Source
from aloe_critic.hyper import Hyper
from aloe_critic.judged import Judged
from aloe_critic.returns import look_ahead, one_step
from aloe_critic.td import ChunkTable, data_tokens
from aloe_policy.critic import ChunkCritic


@torch.no_grad()
def advantages(
    critic: ChunkCritic,
    policy: Judged,
    table: ChunkTable,
    bank: Tensor,
    batch: int = 1024,
    *,
    of: Literal["pessimistic", "heads"] = "pessimistic",
) -> tuple[Tensor, Tensor]:
    """A = Q_pess(s, a) - mean_n Q_pess(s, a_n), a_n ~ policy (bank [rows, n, D]), and Q_pess, each float32 [N] on
    the CPU.

    of heads: A is the mean over heads of the same difference of each.
    """
    a, q = [], []
    for pick in torch.arange(len(table.windows)).split(batch):
        obs = table.windows.obs[pick].to(table.z.device)
        z = table.z[obs]
        q_i = critic(z, data_tokens(policy, critic, table, pick)).squeeze(-1)
        v_i = critic(z, bank[obs])
        q_data = critic.pessimistic(q_i)
        if of == "heads":
            a.append((q_i - v_i.mean(-1)).mean(0))
        else:
            a.append(q_data - critic.pessimistic(v_i).mean(-1))
        q.append(q_data)
    return torch.cat(a).cpu(), torch.cat(q).cpu()


@torch.no_grad()
def advantages_ahead(
    critic: ChunkCritic, table: ChunkTable, bank: Tensor, stride: int, gamma: float, hyper: Hyper, batch: int = 1024
) -> Tensor:
    """A = what came of the next `advantage_steps` of whoever drove: rewards + gamma^n V(s') - V(s), float32 [N].

    V(s) = mean_n Q_pess(s, a_n) is still that of the policy (bank [rows, n, D]), learned by TD. A chunk of 0.2 s
    changes it by less than the critic's error, a second of a correction by more. As RECAP's advantage, except that
    nobody gets credit for what another driver did. `stride`, `gamma`: of the table's windows, all and in order.
    """
    heads = hyper.advantage_of == "heads"
    values = []
    for z, chunks in zip(table.z.split(batch), bank.split(batch), strict=True):
        q = critic(z, chunks)
        values.append((q.mean(0) if heads else critic.pessimistic(q)).mean(-1))
    value = torch.cat(values).cpu()
    steps = one_step(table.windows, stride, gamma, table.max_length)
    reward, discount, row = look_ahead(steps, max(1, round(hyper.advantage_steps / stride)), one_driver=True)
    return reward + discount * value[row] - value[table.windows.obs]


def scale_advantages(advantage: Tensor, how: str) -> Tensor:
    """Advantages in units in which beta means the same for every task: by standard deviation, or as normal scores.

    Chunks that end an episode have advantages many times the spread of the rest; divided by the standard deviation
    they take the whole effective size for themselves and the rest stays almost unweighted. Ranks do not care.
    """
    if how == "std":
        return advantage / advantage.std().clamp_min(1e-6)
    rank = advantage.argsort().argsort().to(advantage.dtype)
    return torch.special.ndtri((rank + 0.5) / len(advantage))


def advantage_weights(advantage: Tensor, beta: float, epsilon: float) -> Tensor:
    """w = exp(clip(A / beta, -epsilon, epsilon)); 1 at A = 0, within [e^-epsilon, e^epsilon]."""
    return (advantage / beta).clamp(-epsilon, epsilon).exp().detach()


def effective_size(weight: Tensor) -> float:
    """(sum w)^2 / (n sum w^2), in (0, 1]: the share of samples that still counts."""
    return float(weight.sum().square() / (len(weight) * weight.square().sum()))


def fit_beta(advantage: Tensor, hyper: Hyper) -> float:
    """Return the largest temperature whose weights have at most the wanted effective size.

    Clipping makes the size rise again at small beta, where weights turn two-valued: a bisection could land there;
    if no temperature reaches the wanted size, the one with the smallest is returned.
    """
    if hyper.beta:
        return hyper.beta
    betas = torch.logspace(2, -2, 600).tolist()
    sizes = [effective_size(advantage_weights(advantage, beta, hyper.epsilon)) for beta in betas]
    for beta, size in zip(betas, sizes, strict=True):
        if size <= hyper.effective_size:
            return float(beta)
    return float(betas[sizes.index(min(sizes))])


def weigh(advantage: Tensor, source: Tensor, hyper: Hyper) -> tuple[Tensor, dict[str, object]]:
    """Return w with mean 1 of windows with these advantages and sources [N], and what an operator should see of it."""
    scaled = scale_advantages(advantage, hyper.advantage_scale)
    beta = fit_beta(scaled, hyper)
    weight = advantage_weights(scaled, beta, hyper.epsilon)
    clipped = float(((scaled / beta).abs() >= hyper.epsilon).float().mean())
    metrics: dict[str, object] = {"beta": beta, "clipped": clipped, "advantage_std": float(advantage.std())}
    return weight / weight.mean(), metrics | shares(weight, advantage, source)


def shares(weight: Tensor, advantage: Tensor, source: Tensor) -> dict[str, object]:
    """Return the effective size, and the mean advantage and share of the weight of each driver."""
    found: dict[str, object] = {"effective_size": effective_size(weight)}
    for driver in (Source.POLICY, Source.HUMAN):
        mine = source == int(driver)
        if mine.any():
            name = driver.name.lower()
            found[f"advantage_{name}"] = float(advantage[mine].mean())
            found[f"weight_share_{name}"] = float(weight[mine].sum() / weight.sum())
    return found

"""Ablation: ALOE whose critic regresses on realised returns, those of whoever drove, instead of on TD targets."""

from __future__ import annotations

from torch import Tensor

from aloe_critic.job import Job, Learned
from aloe_critic.judged import Judged
from aloe_critic.learners.aloe import iterate
from aloe_critic.returns import known_returns, one_step
from aloe_critic.td import ChunkTable, data_tokens, fit_q
from aloe_policy.critic import ChunkCritic


def learn(job: Job) -> Learned:
    """Weights as in ALOE, and the best of several chunks at run time; everything but the target is aloe_select's."""
    return iterate(job, "mc", regress)


def regress(
    critic: ChunkCritic, policy: Judged, table: ChunkTable, _bank: Tensor, job: Job, steps: int, phase: str
) -> dict[str, float]:
    """Fit Q_i on Monte Carlo returns."""
    cut = one_step(table.windows, job.replay.stride, job.hyper.gamma, table.max_length)
    returns, known = known_returns(cut, "mc")
    executed, y = data_tokens(policy, critic, table), returns.to(job.device)
    return fit_q(critic, table, job, lambda _network, pick: y[pick][None], executed, steps, phase, known)

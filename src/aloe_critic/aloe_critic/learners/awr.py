"""Advantage-weighted regression on realised returns (arXiv 1910.00177)."""

from __future__ import annotations

import torch

from aloe_critic.advantage import weigh
from aloe_critic.features import compute_features
from aloe_critic.imitate import Examples, refit
from aloe_critic.job import Job, Learned
from aloe_critic.learners.select import driven_rows
from aloe_critic.returns import known_returns, one_step
from aloe_critic.scale import reward_scale
from aloe_critic.values import Bins, fit_values


def learn(job: Job) -> Learned:
    """w = exp(clip(A / beta)), A = return - V(s); V is 256-bin HL-Gauss cross entropy on Monte Carlo returns.

    Scale and temperature of A are set as for aloe, so that the two differ in what A is. Windows of episodes without
    an outcome have no return and are left out.
    """
    hyper = job.hyper
    policy = job.needs_policy("awr")
    max_length, failure_cost = reward_scale(job.replay, hyper)
    windows = job.replay.windows(gamma=hyper.gamma, max_length=max_length, failure_cost=failure_cost)
    imitated = driven_rows(windows, "awr")
    returns, known = known_returns(one_step(windows, job.replay.stride, hyper.gamma, max_length), "awr")
    bins = Bins(-1 - failure_cost / max_length, 0.0, hyper.awr_bins, "hl_gauss")
    value, value_loss = fit_values(job, windows, compute_features(policy, job.replay), returns, known, bins)

    rows = imitated[torch.isin(imitated, known)]
    advantage = returns[rows] - value[windows.obs[rows]]
    weight, metrics = weigh(advantage, windows.source[rows], hyper)
    explained = 1 - float(advantage.var() / returns[rows].var().clamp_min(1e-9))
    policy = job.policy_to_refit("awr")
    _, loss = refit(policy, job, Examples(windows, rows, weight))
    metrics |= {"actor_loss": loss, "value_loss": value_loss, "explained": explained, "windows": len(windows)}
    return Learned(policy, None, 1, None, metrics)

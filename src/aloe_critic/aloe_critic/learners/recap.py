"""RECAP: condition the policy on whether a chunk was an improvement (arXiv 2511.14759)."""

from __future__ import annotations

import torch
from torch import Tensor

from aloe_core.episode.data import Source
from aloe_core.errors import AloeError
from aloe_critic.features import compute_features
from aloe_critic.imitate import Examples, refit
from aloe_critic.job import Job, Learned
from aloe_critic.learners.select import driven_rows, human
from aloe_critic.replay import Replay, Windows
from aloe_critic.returns import known_returns, look_ahead, one_step
from aloe_critic.scale import reward_scale
from aloe_critic.values import Bins, fit_values
from aloe_policy.flow import BETTER, WORSE
from aloe_policy.model import FlowPolicy


def learn(job: Job) -> Learned:
    """Label windows by a 50-step advantage of V, then refit the warm start conditioned on the label.

    V: 201 bins, cross entropy on undiscounted returns over the longest episode (nearest bin, as in the paper), with
    the C_fail of the other methods. The threshold makes `recap_positive` of the policy's windows in each task
    improvements; the person's always are. On the robot samples are guided towards improvements.
    """
    hyper = job.hyper
    policy = conditioned(job.needs_warm_start("recap"), hyper.recap_guidance).to(job.device)
    max_length, failure_cost = reward_scale(job.replay, hyper)
    windows = job.replay.windows(gamma=1.0, max_length=max_length, failure_cost=failure_cost)
    steps = one_step(windows, job.replay.stride, 1.0, max_length)
    returns, known = known_returns(steps, "recap")
    bins = Bins(-1 - failure_cost / max_length, 0.0, hyper.recap_bins, "nearest")
    value, value_loss = fit_values(job, windows, compute_features(policy, job.replay), returns, known, bins)

    links = max(1, round(hyper.recap_lookahead / job.replay.stride))
    reward, discount, row = look_ahead(steps, links)
    advantage = reward + discount * value[row] - value[windows.obs]
    rollout = windows.source == int(Source.POLICY)
    if not rollout.any():
        raise AloeError("RECAP sets its threshold on what a policy did, and no bag holds any: record rollouts first.")
    threshold = thresholds(job.replay, windows, advantage, rollout, 1 - hyper.recap_positive)
    better = (advantage > threshold[windows.episode]) | human(windows)
    rows = driven_rows(windows, "recap")
    said = torch.where(better, BETTER, WORSE)[rows]
    _, loss = refit(policy, job, Examples(windows, rows, said=said, dropout=hyper.recap_dropout))
    metrics: dict[str, object] = {
        "actor_loss": loss,
        "value_loss": value_loss,
        "threshold": float(threshold[windows.episode[rollout]].mean()),
        "positive_policy": float(better[rollout].float().mean()),
        "positive": float(better[rows].float().mean()),
        "windows": len(windows),
    }
    return Learned(policy, None, 1, None, metrics)


def thresholds(replay: Replay, windows: Windows, advantage: Tensor, rollout: Tensor, quantile: float) -> Tensor:
    """Return for each episode, float32 [episodes], this quantile of the advantages [N] of its task's `rollout` windows.

    Where a task has no rollout nothing but a person's windows is labelled, so that its threshold is infinite.
    """
    names, task = replay.tasks()
    found = torch.full((len(names),), torch.inf)
    for number in range(len(names)):
        mine = advantage[rollout & (task[windows.episode] == number)]
        if len(mine):
            found[number] = mine.quantile(quantile)
    return found[task]


def conditioned(policy: FlowPolicy, guidance: float) -> FlowPolicy:
    """Return the same policy with an indicator that says nothing yet."""
    changed = FlowPolicy(policy.config.model_copy(update={"indicator": True, "guidance": guidance}))
    changed.load_state_dict(policy.state_dict(), strict=False)
    return changed.eval()

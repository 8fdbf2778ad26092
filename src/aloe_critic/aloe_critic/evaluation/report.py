"""Off-policy evaluation: how well a critic's values agree with what happened in bags it was not fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from aloe_core.episode.data import Outcome
from aloe_critic.evaluation import calibration
from aloe_critic.evaluation.estimates import RESAMPLES, Estimate, auc, estimate, pearson, share, spearman
from aloe_critic.evaluation.realised import TIMEOUTS, Timeout, realised_returns
from aloe_critic.evaluation.scores import EpisodeScores, RewardScale

MOMENTS = (25, 50, 75)  # per cent of an episode at which success is told from the rest


def evaluate(
    scores: Sequence[EpisodeScores],
    scale: RewardScale,
    *,
    critic_version: str = "",
    timeout: Timeout = "continued",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the report (JSON): facts, and the same figures over all episodes and over `autonomous` ones.

    A person's correction is part of the realised return, while Q is that of the policy alone: only autonomous episodes
    ask both the same question. Figures are `Estimate`s; null with a reason where the data do not define them.
    """
    options = {"timeout": timeout, "resamples": resamples, "seed": seed}
    versions = Counter(v for s in scores for v in set(s.episode.policy_versions))
    return {
        "critic_version": critic_version,
        "scale": asdict(scale),
        "timeout": timeout,
        "episodes": len(scores),
        "chunks": int(sum(s.driven.sum() for s in scores)),
        "outcomes": dict(Counter(s.episode.outcome.name.lower() for s in scores)),
        "policy_versions": dict(versions),  # episodes that each drove in
        "all": figures(scores, scale, **options),
        "autonomous": figures([s for s in scores if s.autonomous], scale, **options),
    }


def figures(
    scores: Sequence[EpisodeScores],
    scale: RewardScale,
    *,
    timeout: Timeout = "continued",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the figures of a set of episodes, by name, each as a dictionary of `Estimate`."""
    found: dict[str, Estimate] = {}

    def add(name: str, figure: Any, episode: np.ndarray, *columns: np.ndarray) -> None:
        found[name] = estimate(figure, episode, *columns, resamples=resamples, seed=seed)

    q, mean, std, returns, episode, whole = paired(scores, scale, timeout)
    add("spearman", spearman, episode, q, returns)
    # A chunk that was cut short tells the critic that the episode ended, or that a person came.
    add("spearman_whole", spearman, episode[whole], q[whole], returns[whole])
    for other in TIMEOUTS:
        if other != timeout and (other != "continued" or scale.gamma < 1):
            pairs = paired(scores, scale, other)
            add(f"spearman_{other}", spearman, pairs[4], pairs[0], pairs[3])
    add("pearson", pearson, episode, q, returns)
    add("ece", calibration.expected_calibration_error, episode, q, returns)
    add("ece_mean", calibration.expected_calibration_error, episode, mean, returns)  # without the pessimism
    add("slope", calibration.slope, episode, q, returns)
    add("bias", calibration.bias, episode, q, returns)
    add("spread_error", spearman, episode, std, np.abs(mean - returns))
    for moment in MOMENTS:
        add(f"auc_{moment}", auc, *_at(scores, moment / 100))
    number = np.array([i for i, s in enumerate(scores) for _ in s.takeovers], np.int64)
    human = np.array([t.q_human for s in scores for t in s.takeovers])
    replaced = np.array([t.q_policy for s in scores for t in s.takeovers])
    fresh = np.array([t.v for s in scores for t in s.takeovers])
    add("ranking", share, number, human > replaced)
    add("ranking_fresh", share, number, human > fresh)
    rows = {name: asdict(value) for name, value in found.items()}
    if not len(number):
        rows["ranking"]["reason"] = rows["ranking_fresh"]["reason"] = "no takeover"
    rows["ranking"]["recorded"] = sum(t.recorded for s in scores for t in s.takeovers)
    return rows


def paired(scores: Sequence[EpisodeScores], scale: RewardScale, timeout: Timeout) -> tuple[np.ndarray, ...]:
    """Return Q_pess, mean and standard deviation over heads, realised return, episode and "ran as long as any" of each
    chunk whose return is known, [N] each; chunks that neither a policy nor a person drove are left out."""
    empty = np.zeros(0)
    parts: list[tuple[np.ndarray, ...]] = [(empty, empty, empty, empty, np.zeros(0, np.int64), np.zeros(0, bool))]
    longest = max((int(s.length.max()) for s in scores), default=0)
    for number, s in enumerate(scores):
        returns = realised_returns(s.episode, **asdict(scale), timeout=timeout)[s.start]
        keep = s.driven & ~np.isnan(returns)
        of = np.full(keep.sum(), number)
        whole = s.length[keep] == longest
        parts.append((s.q_pess[keep], s.q_mean[keep], s.q_std[keep], returns[keep], of, whole))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _at(scores: Sequence[EpisodeScores], moment: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return episode, Q_pess of the chunk under way and success of each episode at this share of its length.

    A time-out counts as no success, an aborted episode as neither.
    """
    usable = [(i, s) for i, s in enumerate(scores) if s.episode.end != "aborted"]
    q = [s.q_pess[max(0, np.searchsorted(s.start, moment * s.episode.steps, side="right") - 1)] for _, s in usable]
    success = [s.episode.outcome == Outcome.SUCCESS for _, s in usable]
    return np.array([i for i, _ in usable], np.int64), np.array(q), np.array(success, bool)

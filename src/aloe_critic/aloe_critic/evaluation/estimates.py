"""Figures with intervals: rank and linear correlation, area under the ROC curve, bootstrapped over episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

RESAMPLES = 500


class Undefined(ValueError):
    """A figure that these data do not define; its text is the reason."""


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95 % interval and what it rests on; `value` None with a reason where it cannot be computed."""

    value: float | None
    low: float | None = None
    high: float | None = None
    samples: int = 0
    episodes: int = 0
    reason: str = ""


def estimate(
    figure: Callable[..., float], episode: np.ndarray, *columns: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return figure(*columns) and its percentile bootstrap over episodes; `episode` int [N] says whose a sample is.

    Chunks of an episode share its outcome: drawn one by one they would make the interval several times too narrow.
    """
    names, group = np.unique(episode, return_inverse=True)
    counts = {"samples": len(episode), "episodes": len(names)}
    try:
        if not len(episode):
            raise Undefined("no samples")
        value = figure(*columns)
    except Undefined as error:
        return Estimate(None, reason=str(error), **counts)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        try:
            drawn.append(figure(*(column[rows] for column in columns)))
        except Undefined:  # for example one class only
            continue
    if len(names) < 2 or not drawn or len(drawn) < resamples / 2:
        return Estimate(value, reason="too few episodes for an interval", **counts)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), **counts)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Linear correlation."""
    if len(x) < 3:
        raise Undefined(f"{len(x)} samples, at least 3 needed")
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    if scale < 1e-12:
        raise Undefined("all values are the same")
    return float((x * y).sum()) / scale


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank."""
    return pearson(rankdata(x), rankdata(y))


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores higher than a negative, ties counted half; positive is bool [N]."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        raise Undefined(f"one class only ({positives} successes, {negatives} others)")
    ranks = rankdata(score)[positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def share(values: np.ndarray) -> float:
    """Mean of a bool array, [N] -> share that is true."""
    return float(values.mean())

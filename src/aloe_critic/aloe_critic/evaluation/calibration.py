"""Is a predicted return as large as what followed?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aloe_critic.evaluation.estimates import Undefined

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Chunks of similar value."""

    count: int
    predicted: float  # mean Q
    realised: float  # mean return
    spread: float  # standard deviation of the return


def reliability(q: np.ndarray, returns: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Sort by q and cut into bins of equal count: values are far from uniform, bins of equal width would be empty."""
    if len(q) < bins:
        raise Undefined(f"{len(q)} chunks, at least {bins} needed")
    parts = np.array_split(np.argsort(q, kind="stable"), bins)
    return [Bin(len(p), float(q[p].mean()), float(returns[p].mean()), float(returns[p].std())) for p in parts]


def expected_calibration_error(q: np.ndarray, returns: np.ndarray, bins: int = BINS) -> float:
    """Mean |predicted - realised| over bins weighted by count, in normalised returns (arXiv 1706.04599)."""
    rows = reliability(q, returns, bins)
    return sum(r.count * abs(r.predicted - r.realised) for r in rows) / len(q)


def slope(q: np.ndarray, returns: np.ndarray) -> float:
    """Least-squares slope of the return over q; 1 is calibrated, below 1 differences of q are exaggerated."""
    if len(q) < 3 or float(q.std()) < 1e-9:
        raise Undefined("too few different values")
    return float(np.cov(q, returns, bias=True)[0, 1] / q.var())


def bias(q: np.ndarray, returns: np.ndarray) -> float:
    """Mean of q - return; negative is pessimistic."""
    return float((q - returns).mean())

"""The return that really followed each control step of an episode."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from aloe_core.episode.data import EpisodeData, Outcome
from aloe_core.episode.transitions import step_rewards
from aloe_core.errors import AloeError
from aloe_critic.returns import never_return

Timeout = Literal["continued", "failed", "omitted"]
_DIGITS = 9
TIMEOUTS: tuple[Timeout, ...] = get_args(Timeout)


def realised_returns(
    ep: EpisodeData, *, gamma: float, max_length: float, failure_cost: float, timeout: Timeout = "continued"
) -> np.ndarray:
    """Return sum_k gamma^k r_{t+k} from every step on, float64 [T], in the units of the critic; NaN = not known.

    A time-out ends the recording, not the task, and critics bootstrap across it. What would have followed is taken as

    * continued: the task is never done, and worth what a critic gives such a state (needs gamma < 1);
    * failed: a failure at the limit, with its cost;
    * omitted: unknown, as is everything in an aborted episode and before a step whose successor was lost.
    """
    check_timeout(timeout)
    reward = step_rewards(ep, max_length=1, failure_cost=failure_cost).astype(np.float64) / max_length
    labelled = ep.terminated and ep.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
    after, least = 0.0, -np.inf
    if not labelled:
        if ep.end != "truncated" or timeout == "omitted":
            return np.full(ep.steps, np.nan)
        if timeout == "failed":
            reward[-1] = -failure_cost / max_length
        elif gamma < 1:
            after = least = never_return(gamma, max_length, failure_cost)
        else:
            raise AloeError("timeout = 'continued': a return without end needs gamma < 1; choose failed or omitted.")
    returns = np.empty(ep.steps)
    for t in range(ep.steps - 1, -1, -1):
        after = max(reward[t] + gamma * after, least)
        returns[t] = after
    if ep.breaks:
        returns[: max(ep.breaks) + 1] = np.nan
    # Returns that are equal must stay equal, or rank correlations would rank rounding errors.
    return np.round(returns, _DIGITS)


def check_timeout(name: str) -> Timeout:
    """Return `name` if it is one of TIMEOUTS, else AloeError."""
    for known in TIMEOUTS:
        if name == known:
            return known
    raise AloeError(f"timeout = {name!r}: expected one of {', '.join(TIMEOUTS)}.")

"""Returns and look-aheads over windows, for what learns from realised returns (awr, recap, mc) and for td1."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from aloe_core.episode.data import Source
from aloe_core.errors import AloeError
from aloe_critic.replay import Windows


def never_return(gamma: float, max_length: float, failure_cost: float) -> float:
    """Return what a state is worth from which nothing comes: -1 a step for ever, but no worse than the longest episode
    and a failure.

    The second bound is that of values about [-2, 0]; without it gamma near 1 would begin far from any return there is.
    Lengths and costs in control steps; the result in units of `max_length`.
    """
    most = max_length + failure_cost
    return -(min(1 / (1 - gamma), most) if gamma < 1 else most) / max_length


def least_return(gamma: float, max_length: float, failure_cost: float) -> float:
    """Return the least a state can be worth, as `never_return`: that, or a failure at once."""
    return min(never_return(gamma, max_length, failure_cost), -failure_cost / max_length)


def one_step(windows: Windows, stride: int, gamma: float, max_length: float) -> Windows:
    """Cut each window's scored part to the `stride` control steps after which the next window begins.

    `windows` must hold a window every `stride` steps of each run, in order, as a Replay gives them, and were scored
    with `gamma` and `max_length`. What is cut off ended nothing, so its steps cost 1 / max_length each.
    """
    whole = windows.length > stride
    following = windows.obs.roll(-1)
    steps = torch.arange(stride, dtype=torch.float64)
    cost = -float((gamma**steps).sum()) / max_length
    return replace(
        windows,
        length=windows.length.clamp_max(stride),
        reward=torch.where(whole, torch.full_like(windows.reward, cost), windows.reward),
        discount=torch.where(whole, torch.full_like(windows.discount, gamma**stride), windows.discount),
        next_obs=torch.where(whole, following, windows.next_obs),
    )


def longer(windows: Windows, stride: int, gamma: float, max_length: float, steps: int) -> Windows:
    """Extend what is scored to the `steps` (a multiple of `stride`, at most the horizon) that one source went on.

    As `one_step`: needs all windows in order, and what gamma and max_length they were scored with.
    """
    links = one_step(windows, stride, gamma, max_length)
    following, wanted = successors(links), windows.plan_length.clamp_max(steps)
    length, reward, discount = links.length.clone(), links.reward.clone(), links.discount.clone()
    row, at = links.next_obs.clone(), following.clone()
    for _ in range(steps // stride - 1):
        go = length < wanted  # so there is a window after this one: the run is not over
        here = at.clamp_min(0)
        reward = torch.where(go, reward + discount * links.reward[here], reward)
        discount = torch.where(go, discount * links.discount[here], discount)
        length = torch.where(go, length + links.length[here], length)
        row = torch.where(go, links.next_obs[here], row)
        at = torch.where(go, following[here], at)
    return replace(windows, length=length, reward=reward, discount=discount, next_obs=row)


def successors(windows: Windows) -> Tensor:
    """Return the window that begins where each ends, int64 [N]; -1 if none does (end of the episode, or a gap)."""
    rows = int(torch.max(windows.obs.max(), windows.next_obs.max())) + 1
    at = torch.full((rows,), -1, dtype=torch.int64)
    at[windows.obs] = torch.arange(len(windows))
    return at[windows.next_obs]


def taken_over(windows: Windows) -> Tensor:
    """Return which windows of a policy end where a person took over, at once or after the robot held, bool [N]."""
    after = successors(windows)
    going = windows.discount > 0
    at = torch.where(going, after, -1)
    # Pointer doubling over held windows: each pass follows twice as many of them.
    held = (windows.source == int(Source.HOLD)) & (at >= 0)
    skip = torch.where(held, at, torch.arange(len(windows)))
    for _ in range(max(1, len(windows)).bit_length()):
        skip = skip[skip]
    human = windows.source[skip[at.clamp_min(0)]] == int(Source.HUMAN)
    return (windows.source == int(Source.POLICY)) & (at >= 0) & human


def monte_carlo(windows: Windows) -> Tensor:
    """Realised return from each one_step window on, float32 [N]; NaN where the recording stops before the outcome."""
    n = len(windows)
    following = successors(windows)
    known = windows.discount == 0
    # Two sentinels end every chain: n is a known end, n + 1 an unknown one.
    following = torch.where(known, n, torch.where(following < 0, n + 1, following))
    following = torch.cat([following, torch.tensor([n, n + 1])])
    total = torch.cat([windows.reward.double(), torch.tensor([0.0, float("nan")], dtype=torch.float64)])
    factor = torch.cat([torch.where(known, 1.0, windows.discount.double()), torch.ones(2, dtype=torch.float64)])
    for _ in range(max(1, n).bit_length() + 1):  # pointer doubling: each pass covers twice as many windows
        total = total + torch.where(following == torch.arange(n + 2), 0.0, factor * total[following])
        factor = factor * factor[following]
        following = following[following]
    return total[:n].float()


def look_ahead(windows: Windows, links: int, *, one_driver: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Follow one_step windows for `links` of them: reward, discount and observation row after them, each [N].

    The discount is 0 where the episode ended on the way. Where the recording stops, so does the look-ahead, and with
    `one_driver` where another one takes over.
    """
    following = successors(windows)
    if one_driver:
        same = windows.source[following.clamp_min(0)] == windows.source
        following = torch.where(same, following, -1)
    reward, discount, row = windows.reward.clone(), windows.discount.clone(), windows.next_obs.clone()
    at = following.clone()
    for _ in range(links - 1):
        go = (at >= 0) & (discount > 0)
        here = at.clamp_min(0)
        reward = torch.where(go, reward + discount * windows.reward[here], reward)
        row = torch.where(go, windows.next_obs[here], row)
        discount = torch.where(go, discount * windows.discount[here], discount)
        at = torch.where(go, following[here], at)
    return reward, discount, row


def known_returns(windows: Windows, method: str) -> tuple[Tensor, Tensor]:
    """Return monte_carlo(windows) and the windows that have one; AloeError if none does."""
    returns = monte_carlo(windows)
    known = (~returns.isnan()).nonzero().squeeze(1)
    if len(known) == 0:
        raise AloeError(f"Method {method} learns from returns: label at least one episode success or failure.")
    return returns, known

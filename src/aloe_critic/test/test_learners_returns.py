"""Returns and look-aheads over windows against sums over the steps of the episodes, and bins of returns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.episode.data import Outcome, Source
from aloe_core.episode.transitions import chunk_transitions, step_rewards
from aloe_critic.expectile import expectile_loss
from aloe_critic.replay import Replay
from aloe_critic.returns import look_ahead, monte_carlo, one_step
from aloe_critic.values import Bins
from synthetic import reach_episode, small_contract

STRIDE, MAX_LENGTH, COST = 5, 60.0, 25.0
CONTRACT = small_contract(horizon=30, execute=10)
ENDINGS = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ABORTED)


def taken(seed, steps, takeovers, outcome):
    """An episode whose driver changes at the steps `takeovers`."""
    episode = reach_episode(CONTRACT, seed, steps=steps, outcome=outcome)
    driver = np.searchsorted(np.sort(takeovers), np.arange(steps), side="right") % 2
    return replace(episode, source=np.where(driver, int(Source.HUMAN), int(Source.POLICY)).astype(np.uint8))


episodes_of = st.lists(
    st.builds(
        taken,
        st.integers(0, 5),
        st.integers(1, 60),
        st.lists(st.integers(0, 60), max_size=3),
        st.sampled_from(ENDINGS),
    ),
    min_size=1,
    max_size=3,
)


def windows_of(episodes, gamma):
    replay = Replay(CONTRACT, STRIDE, 512)
    for episode in episodes:
        replay.add(episode)
    return replay.windows(gamma=gamma, max_length=MAX_LENGTH, failure_cost=COST)


def parts(episodes, gamma):
    """(episode, first step, steps, reward, discount) of every part of STRIDE steps, as the transitions define them."""
    for episode in episodes:
        cut = chunk_transitions(episode, STRIDE, max_length=MAX_LENGTH, failure_cost=COST, gamma=gamma, stride=STRIDE)
        for i in range(len(cut)):
            yield episode, int(cut.start[i]), int(cut.length[i]), float(cut.reward[i]), float(cut.discount[i])


@given(episodes_of, st.sampled_from((1.0, 0.98)))
def test_cut_windows_are_the_transitions_of_one_stride(episodes, gamma):
    cut = one_step(windows_of(episodes, gamma), STRIDE, gamma, MAX_LENGTH)
    expected = list(parts(episodes, gamma))
    assert cut.length.tolist() == [length for _, _, length, _, _ in expected]
    np.testing.assert_allclose(cut.reward, [reward for *_, reward, _ in expected], atol=1e-5)
    np.testing.assert_allclose(cut.discount, [discount for *_, discount in expected], atol=1e-5)


@given(episodes_of, st.sampled_from((1.0, 0.98)))
def test_monte_carlo_is_the_discounted_sum_to_the_end_across_takeovers(episodes, gamma):
    found = monte_carlo(one_step(windows_of(episodes, gamma), STRIDE, gamma, MAX_LENGTH))
    expected = []
    for episode, start, *_ in parts(episodes, gamma):
        rewards = step_rewards(episode, max_length=MAX_LENGTH, failure_cost=COST)[start:].astype(float)
        known = episode.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
        expected.append((gamma ** np.arange(len(rewards)) * rewards).sum() if known else np.nan)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(episodes_of, st.integers(1, 6), st.booleans())
def test_look_ahead_sums_rewards_until_it_the_recording_or_the_driver_ends(episodes, links, one_driver):
    gamma = 0.98
    windows = windows_of(episodes, gamma)
    reward, discount, row = look_ahead(one_step(windows, STRIDE, gamma, MAX_LENGTH), links, one_driver=one_driver)
    everything = list(parts(episodes, gamma))
    following = {(id(e), start): (length, r, d) for e, start, length, r, d in everything}
    for i, (episode, start, *_) in enumerate(everything):
        total, factor, at = 0.0, 1.0, start
        for _ in range(links):
            if (id(episode), at) not in following or factor == 0:
                break
            if one_driver and episode.source[at] != episode.source[start]:
                break
            length, r, d = following[id(episode), at]
            total, factor, at = total + factor * r, factor * d, at + length
        assert reward[i].item() == pytest.approx(total, abs=1e-5)
        assert discount[i].item() == pytest.approx(factor, abs=1e-5)
        first = windows.obs[i] - sum(e is episode and s < start for e, s, *_ in everything)
        rows = sorted({s for e, s, *_ in everything if e is episode} | {episode.steps})
        if len({id(e) for e in episodes}) == len(episodes):
            assert row[i].item() == int(first) + rows.index(at)


@pytest.mark.parametrize("how", ["hl_gauss", "nearest"])
def test_bins_keep_a_return_and_their_minimum_is_the_mean_return(how):
    bins = Bins(-2.0, 0.0, 201, how)
    returns = torch.tensor([-1.234, -0.5, -1.99, 0.0, -7.0])
    spread = bins.spread(returns)
    torch.testing.assert_close(spread.sum(1), torch.ones(5))
    inside = returns.clamp(float(bins.centers[0]), float(bins.centers[-1]))
    torch.testing.assert_close(spread[:2] @ bins.centers, inside[:2], atol=0.006, rtol=0)
    # Two returns seen equally often from one state: the best logits give their mean.
    seen = torch.tensor([-0.4, -1.2])
    logits = torch.zeros(1, 201, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        bins.loss(logits.expand(2, -1), seen).mean().backward()
        optimizer.step()
    assert bins.mean(logits).item() == pytest.approx(-0.8, abs=0.01)


def test_hl_gauss_spreads_over_neighbours_and_nearest_does_not():
    assert (Bins(-2.0, 0.0, 256, "hl_gauss").spread(torch.tensor([-1.0])) > 0.01).sum() >= 4
    assert (Bins(-2.0, 0.0, 201, "nearest").spread(torch.tensor([-1.0])) > 0).sum() == 1


def test_expectile_of_two_values_is_the_weighted_mean():
    q = torch.tensor([0.0, -1.0])
    v = torch.zeros((), requires_grad=True)
    expectile_loss(q - v, 0.9).sum().backward()
    assert v.grad.item() > 0  # above the expectile: lower it
    v = torch.full((), -0.1, requires_grad=True)  # 0.9 * (0 + 0.1) = 0.1 * (1 - 0.1)
    expectile_loss(q - v, 0.9).sum().backward()
    assert v.grad.item() == pytest.approx(0.0, abs=1e-6)
    assert torch.autograd.gradcheck(
        lambda u: expectile_loss(u, 0.9), torch.randn(6, dtype=torch.float64, requires_grad=True)
    )

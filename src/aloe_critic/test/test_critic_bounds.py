"""What a new critic says of states it knows nothing of, and what its targets may not leave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aloe_core.episode.data import Source
from aloe_critic.advantage import advantages, advantages_ahead
from aloe_critic.features import compute_features
from aloe_critic.hyper import make_hyper
from aloe_critic.job import Job
from aloe_critic.replay import Replay
from aloe_critic.returns import least_return, look_ahead, one_step, taken_over
from aloe_critic.td import ChunkTable, data_tokens, fit_critic, new_critic, sample_bank
from aloe_policy.config import FlowConfig
from aloe_policy.model import FlowPolicy
from synthetic import mixed_episode, reach_episode, small_contract

CONTRACT = small_contract()
SMALL = {"critic_width": 32, "critic_layers": 2, "critic_batch": 64, "bank": 4, "threads": 1}


def setting(**overrides):
    """A job, an untrained policy and the table of two successful and two endless episodes."""
    torch.manual_seed(0)
    replay = Replay(CONTRACT, stride=5, buckets=512)
    for seed in range(2):
        replay.add(reach_episode(CONTRACT, seed))
    for seed in (2, 3):
        replay.add(replace(reach_episode(CONTRACT, seed, noise=0.8), end="truncated"))
    hyper = make_hyper(SMALL | overrides)
    policy = FlowPolicy(FlowConfig.for_contract(CONTRACT, keypoints=4, width_head=16))
    windows = replay.windows(gamma=hyper.gamma, max_length=40, failure_cost=40)
    table = ChunkTable(windows, compute_features(policy, replay), replay.state(), 40, 40)
    return Job(CONTRACT, replay, hyper, lambda *_: None), policy, table


@pytest.mark.parametrize(
    ("gamma", "failure_cost", "least"),
    [(0.98, 40, -1.25), (0.99, 40, -2.0), (0.98, 200, -5.0), (1.0, 10, -1.25), (1.0, 80, -3.0)],
)
def test_least_return_is_never_succeeding_or_the_longest_episode_that_fails(gamma, failure_cost, least):
    _, _, table = setting()
    assert least_return(gamma, table.max_length, failure_cost) == pytest.approx(least)


def test_a_new_critic_expects_nothing_unless_told_otherwise():
    job, policy, table = setting()
    tokens = lambda critic: data_tokens(policy, critic, table)  # noqa: E731
    with torch.no_grad():
        critic = new_critic(policy, job.hyper, table)
        assert critic(table.z[table.windows.obs], tokens(critic)).mean().item() == pytest.approx(
            least_return(job.hyper.gamma, table.max_length, table.failure_cost), abs=0.2
        )
        hyper = make_hyper(SMALL | {"initial_value": "middle"})
        critic = new_critic(policy, hyper, table)
        assert critic(table.z[table.windows.obs], tokens(critic)).mean().item() == pytest.approx(-0.5, abs=0.2)


def test_values_of_an_endless_episode_stay_at_the_bottom_and_those_of_a_success_rise():
    """From the middle, TD would need hundreds of target copies to find out that nothing ever comes."""
    job, policy, table = setting(gamma=0.99, critic_lr=3e-3, tau=0.05)
    critic = new_critic(policy, job.hyper, table)
    bank = sample_bank(policy, critic, table, job.hyper, job.hyper.bank)
    fit_critic(critic, policy, table, bank, job, 200)
    with torch.no_grad():
        q = critic(table.z[table.windows.obs], data_tokens(policy, critic, table)).mean(0).squeeze(-1)
    endless = table.windows.episode >= 2
    assert q[endless].max() < -1.5, "an endless episode is worth -2"
    assert q[~endless].max() > q[endless].max() + 0.5


def test_targets_stay_within_the_returns_there_can_be():
    """Heads that start far apart pull their minimum below any return; bounded targets do not follow."""
    found = {}
    for bounded in (True, False):
        job, policy, table = setting(bounded_target=bounded, tau=1.0, critic_lr=1e-2, gamma=0.99)
        critic = new_critic(policy, job.hyper, table)
        with torch.no_grad():
            critic.out.bias[0] = -40.0
        bank = sample_bank(policy, critic, table, job.hyper, job.hyper.bank)
        fit_critic(critic, policy, table, bank, job, 150)
        with torch.no_grad():
            q = critic(table.z[table.windows.obs], data_tokens(policy, critic, table))
        found[bounded] = q[1:].mean().item()
    assert found[True] > -2.1 and found[False] < -5


def test_windows_that_a_person_cut_short_are_those_before_the_takeover():
    replay = Replay(CONTRACT, stride=5, buckets=512)
    ep = mixed_episode(CONTRACT, 4)
    replay.add(reach_episode(CONTRACT, 0))
    replay.add(reach_episode(CONTRACT, 1, source=Source.POLICY))
    replay.add(ep)
    windows = replay.windows(gamma=0.99, max_length=40, failure_cost=40)
    cut = taken_over(windows)
    driver = [Source(s) for s in ep.source]
    takeovers = [t for t in range(1, ep.steps) if driver[t - 1 : t + 1] == [Source.POLICY, Source.HUMAN]]
    assert takeovers and cut.any()
    assert (windows.episode[cut] == 2).all()
    assert len(set(windows.next_obs[cut].tolist())) == len(takeovers), "they end at the takeovers"
    assert (windows.source[cut] == int(Source.POLICY)).all()


@pytest.mark.parametrize("held", [1, 5, 13])
def test_a_takeover_after_the_robot_held_is_one_as_well(held):
    """The operator, or an alarm, stops the policy; then the person takes over."""
    replay = Replay(CONTRACT, stride=5, buckets=512)
    ep = mixed_episode(CONTRACT, 4, takeover=20 + held)
    source, chunk, index = ep.source.copy(), ep.chunk.copy(), ep.chunk_index.copy()
    source[20 : 20 + held], chunk[20 : 20 + held], index[20 : 20 + held] = int(Source.HOLD), -1, -1
    replay.add(replace(ep, source=source, chunk=chunk, chunk_index=index))
    resumed = source.copy()
    resumed[20 + held :] = int(Source.POLICY)
    replay.add(replace(ep, source=resumed, chunk=np.where(resumed == int(Source.POLICY), 0, -1)))
    windows = replay.windows(gamma=0.99, max_length=40, failure_cost=40)
    cut = taken_over(windows)
    assert cut.any() and (windows.episode[cut] == 0).all() and (windows.source[cut] == int(Source.POLICY)).all()
    assert set(windows.next_obs[cut].tolist()) == {int(windows.obs[windows.source == int(Source.HOLD)].min())}


def corrected(**overrides):
    """Setting with four more episodes, with takeovers: job, policy, table, new critic, tokens of the data."""
    job, policy, _ = setting(gamma=0.99, critic_lr=3e-3, tau=0.05, **overrides)
    for seed in range(4, 8):
        job.replay.add(mixed_episode(CONTRACT, seed))
    windows = job.replay.windows(gamma=0.99, max_length=40, failure_cost=40)
    table = ChunkTable(windows, compute_features(policy, job.replay), job.replay.state(), 40, 40)
    critic = new_critic(policy, job.hyper, table)
    return job, policy, table, critic, data_tokens(policy, critic, table)


def mean_q(critic, table, tokens, rows):
    """Mean over heads and windows `rows`."""
    with torch.no_grad():
        return critic(table.z[table.windows.obs[rows]], tokens[rows]).mean().item()


def test_a_takeover_says_never_where_that_is_asked_for():
    found = {}
    for takeover in ("bootstrap", "never"):
        job, policy, table, critic, tokens = corrected(takeover=takeover)
        bank = tokens.new_zeros(job.replay.rows, 1, tokens.shape[-1])
        bank[table.windows.obs] = tokens  # a policy that would do in each state what was done
        fit_critic(critic, policy, table, bank, job, 300)
        found[takeover] = mean_q(critic, table, tokens, taken_over(table.windows))
    assert found["never"] < found["bootstrap"] - 0.3, found


def test_a_correction_is_credited_as_a_whole_where_the_persons_segment_goes_on():
    """The policy of `bank` does nothing that leads anywhere; what the person did ends in success."""
    found = {}
    for continuation in ("policy", "segment"):
        job, policy, table, critic, tokens = corrected(continuation=continuation)
        bank = tokens.new_full((job.replay.rows, 1, tokens.shape[-1]), 3.0)  # far from all that was ever done
        fit_critic(critic, policy, table, bank, job, 300)
        w = table.windows
        on_the_way = (w.source == int(Source.HUMAN)) & (w.episode >= 4) & (w.discount > 0)
        found[continuation] = mean_q(critic, table, tokens, on_the_way)
    assert found["segment"] > found["policy"] + 0.3, found


def test_advantage_of_heads_forgets_what_a_head_thinks_of_the_state():
    job, policy, table = setting()
    critic = new_critic(policy, job.hyper, table)
    bank = sample_bank(policy, critic, table, job.hyper, 4)
    before = {of: advantages(critic, policy, table, bank, of=of) for of in ("pessimistic", "heads")}
    with torch.no_grad():
        critic.out.bias += torch.linspace(-0.3, 0.3, job.hyper.heads)[:, None, None]
    after = {of: advantages(critic, policy, table, bank, of=of) for of in ("pessimistic", "heads")}
    torch.testing.assert_close(after["heads"][0], before["heads"][0], atol=1e-5, rtol=1e-4)
    assert (after["pessimistic"][0] - before["pessimistic"][0]).abs().max() > 1e-3
    torch.testing.assert_close(after["heads"][1], after["pessimistic"][1])


@pytest.mark.parametrize("of", ["pessimistic", "heads"])
def test_advantage_ahead_is_what_came_of_the_steps_ahead_by_the_value_of_the_policy(of):
    job, policy, table = setting()
    critic = new_critic(policy, job.hyper, table)
    torch.nn.init.normal_(critic.out.weight)  # values that differ from state to state
    bank = sample_bank(policy, critic, table, job.hyper, 4)
    hyper = make_hyper({"advantage_steps": 20, "advantage_of": of})
    stride, gamma = job.replay.stride, job.hyper.gamma
    found = advantages_ahead(critic, table, bank, stride, gamma, hyper, batch=7)

    @torch.no_grad()
    def value(row):
        q = critic(table.z[row][None], bank[row][None])[:, 0]  # [K, n]
        return (q.mean(0) if of == "heads" else q.min(0).values).mean().item()

    reward, discount, row = look_ahead(one_step(table.windows, stride, gamma, 40), 4, one_driver=True)
    for i in range(len(found)):
        gone = reward[i].item() + discount[i].item() * value(row[i]) - value(table.windows.obs[i])
        assert found[i].item() == pytest.approx(gone, abs=1e-4)
    assert (discount == 0).any() and ((discount - gamma**20).abs() < 1e-5).any() and found.std() > 0.01

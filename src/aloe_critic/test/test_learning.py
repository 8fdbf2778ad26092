"""The learners on tiny data: they overfit, they evaluate the policy they are given, they leave it alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.features import compute_features
from aloe_critic.hyper import make_hyper
from aloe_critic.imitate import Examples, fit
from aloe_critic.job import Job
from aloe_critic.learners import aloe, bc, method
from aloe_critic.replay import Replay
from aloe_critic.td import ChunkTable, data_tokens, fit_critic, new_critic, sample_bank
from synthetic import reach_episode, small_contract

QUIET = lambda *_: None  # noqa: E731
SMALL = {
    "keypoints": 8,
    "width_head": 96,
    "critic_width": 32,
    "critic_layers": 2,
    "threads": 1,
    "bc_head_steps": 100,
    "head_batch": 64,
    "actor_head_steps": 20,
}


def replay_of(contract, episodes):
    replay = Replay(contract, stride=5, buckets=512)
    for episode in episodes:
        replay.add(episode)
    return replay


def job_of(contract, episodes, **overrides):
    torch.manual_seed(0)
    return Job(contract, replay_of(contract, episodes), make_hyper(SMALL | overrides), QUIET)


def test_replay_window_holds_the_executed_steps_and_the_frame_of_its_start():
    contract = small_contract()
    episode = reach_episode(contract, 1)
    replay = replay_of(contract, [episode])
    w = replay.windows(gamma=1.0, max_length=40, failure_cost=40)
    assert len(w) == 8
    np.testing.assert_allclose(w.chunk[2].numpy(), episode.executed[10:20])
    assert w.length.tolist() == [5] * 8 and w.plan_length.tolist() == [10] * 7 + [5]
    np.testing.assert_allclose(replay.state()[w.obs[3]].numpy(), episode.state[15])
    assert replay.frame_index()[w.obs[3]].tolist() == [3]
    assert w.reward.sum().item() == pytest.approx(-39 / 40) and w.discount.tolist() == [1.0] * 7 + [0.0]


def test_replay_refuses_an_episode_of_another_robot():
    contract = small_contract()
    with pytest.raises(AloeError, match="contract_hash"):
        replay_of(contract, [replace(reach_episode(contract, 1), contract_hash="0" * 16)])


def test_cloning_overfits_one_episode_and_follows_the_picture():
    contract = small_contract()
    episodes = [reach_episode(contract, s) for s in (1, 2)]
    job = job_of(contract, episodes, bc_steps=300, bc_batch=16, bc_lr=3e-3, state_noise=0.0, brightness=0.0)
    learned = bc.learn(job)
    policy, replay = learned.policy, job.replay
    w = replay.windows(gamma=1.0, max_length=1, failure_cost=1)
    start = torch.tensor([0, 8])  # first window of each episode: same state, different picture
    z = policy.features(replay.batch(w.obs[start]))
    chunk = policy.decode_actions(policy.sample_knots(z, 8), replay.state()[w.obs[start]]).mean(1)
    wanted = w.chunk[start]
    assert (chunk - wanted).abs().max() < 0.35 * (wanted[0] - wanted[1]).abs().max()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_encoder_is_fitted_in_the_precision_asked_for(precision):
    """Where bfloat16 is emulated, an encoder that ignored the setting would take ten times as long."""
    contract = small_contract()
    job = job_of(contract, [reach_episode(contract, 1)], precision=precision)
    windows = job.replay.windows(gamma=1.0, max_length=1, failure_cost=1)
    policy = bc.new_policy(contract, job.hyper, job.replay, windows, torch.arange(len(windows)))
    seen = []
    policy.encoders[0].register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    fit(policy, job, Examples(windows, torch.arange(len(windows))), steps=2, lr=1e-3, phase="cloning")
    assert seen == [precision == "bfloat16"] * 2


def test_cloning_without_a_successful_demonstration_says_so():
    contract = small_contract()
    with pytest.raises(AloeError, match="no successful demonstration"):
        bc.learn(job_of(contract, [reach_episode(contract, 1, outcome=Outcome.FAILURE)]))


def test_critic_learns_the_return_of_the_only_behaviour_there_is():
    """With one successful episode, Q at a window is the discounted return collected from there (V <= 0, rising)."""
    contract = small_contract()
    job = job_of(contract, [reach_episode(contract, 3)], gamma=0.98, tau=0.05, critic_lr=3e-3, heads=2)
    policy = bc.learn(replace(job, hyper=make_hyper(SMALL | {"bc_steps": 150, "bc_batch": 16}))).policy
    w = job.replay.windows(gamma=0.98, max_length=40, failure_cost=40)
    table = ChunkTable(w, compute_features(policy, job.replay), job.replay.state(), 40, 40)
    # The policy's own chunks must look like the data for its value to be the data's return.
    critic = new_critic(policy, job.hyper, table)
    critic.action_std.fill_(1e3)
    before = copy.deepcopy(policy.state_dict())
    fit_critic(critic, policy, table, sample_bank(policy, critic, table, job.hyper, 4), job, 700)
    rewards = np.full(40, -1 / 40)
    rewards[-1] = 0
    exact = [sum(0.98**k * r for k, r in enumerate(rewards[s:])) for s in range(0, 40, 5)]
    q = critic(table.z[w.obs], data_tokens(policy, critic, table, torch.arange(len(w)))).mean(0).squeeze(-1)
    np.testing.assert_allclose(q.detach().numpy(), exact, atol=0.06)
    assert all(torch.equal(before[k], v) for k, v in policy.state_dict().items())


def test_aloe_needs_a_policy_and_unknown_methods_are_refused():
    contract = small_contract()
    with pytest.raises(AloeError, match="--method bc first"):
        aloe.learn(job_of(contract, [reach_episode(contract, 1)]))
    with pytest.raises(AloeError, match="'aloe_select'"):
        method("aloe_selct")


def test_improvement_prefers_what_the_critic_prefers():
    """Same pictures, successful and failed motions: after one iteration the weight lies on the successful ones."""
    contract = small_contract()
    good = [reach_episode(contract, s) for s in range(4)]
    bad = [reach_episode(contract, s, source=Source.POLICY, outcome=Outcome.FAILURE, noise=0.8) for s in range(4)]
    job = job_of(
        contract,
        good + bad,
        bc_steps=60,
        bc_batch=16,
        critic_steps=400,
        critic_lr=1e-3,
        actor_steps=10,
        refresh_steps=5,
    )
    job.policy = bc.learn(job).policy
    learned = aloe.learn_select(job)
    assert learned.candidates == 8 and 0 < learned.metrics["effective_size"] <= 1
    assert learned.metrics["weight_share_human"] > 0.6 > learned.metrics["weight_share_policy"]
    assert aloe.learn(job).candidates == 1


def test_critic_that_goes_on_learning_keeps_its_reward_scale():
    contract = small_contract()
    few = {"bc_steps": 5, "bc_batch": 8, "critic_steps": 5, "actor_steps": 2, "refresh_steps": 2}
    job = job_of(contract, [reach_episode(contract, 0)], **few)
    job.policy = bc.learn(job).policy
    first = aloe.learn_select(job)
    assert first.reward_scale == (40.0, 40.0)
    longer = job_of(contract, [reach_episode(contract, 0), reach_episode(contract, 1, steps=60)], **few)
    again = replace(longer, policy=first.policy, critic=first.critic, reward_scale=first.reward_scale)
    assert aloe.learn_select(again).metrics["max_length"] == 40.0
    fresh = replace(longer, policy=first.policy)
    assert aloe.learn_select(fresh).metrics["max_length"] == 60.0


def test_holds_are_not_imitated():
    contract = small_contract()
    few = {"bc_steps": 5, "bc_batch": 8, "critic_steps": 5, "actor_steps": 2, "refresh_steps": 2}
    job = job_of(contract, [reach_episode(contract, 0)], **few)
    policy = bc.learn(job).policy
    held = job_of(contract, [reach_episode(contract, 1, source=Source.HOLD)], **few)
    held.policy = policy
    with pytest.raises(AloeError, match="no step of a policy or a person"):
        aloe.learn_select(held)

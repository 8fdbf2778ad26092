"""Where targets bootstrap, and which losses reach which weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aloe_core.episode.data import Outcome, Source
from aloe_critic.features import compute_features
from aloe_critic.hyper import make_hyper
from aloe_critic.imitate import Examples, refit
from aloe_critic.job import Job
from aloe_critic.learners.bc import new_policy
from aloe_critic.learners.hil_serl import SoftActorCritic, gaussian
from aloe_critic.replay import Replay
from aloe_critic.td import ChunkTable, fit_critic, new_critic, sample_bank, td_target
from synthetic import mixed_episode, reach_episode, small_contract

GAMMA, MAX_LENGTH, COST = 0.9, 40.0, 20.0
CONTRACT = small_contract()
SMALL = {
    "keypoints": 4,
    "width_head": 16,
    "critic_width": 16,
    "threads": 1,
    "bc_batch": 8,
    "head_batch": 8,
    "critic_batch": 8,
    "actor_steps": 2,
    "actor_head_steps": 2,
    "gamma": GAMMA,
}


def job_of(*episodes):
    torch.manual_seed(0)
    replay = Replay(CONTRACT, 5, 512)
    for episode in episodes:
        replay.add(episode)
    return Job(CONTRACT, replay, make_hyper(SMALL), lambda *_: None)


def table_of(job):
    windows = job.replay.windows(gamma=GAMMA, max_length=MAX_LENGTH, failure_cost=COST)
    policy = new_policy(job.contract, job.hyper, job.replay, windows, torch.arange(len(windows))).eval()
    table = ChunkTable(windows, compute_features(policy, job.replay), job.replay.state(), MAX_LENGTH, COST)
    return policy, table, new_critic(policy, job.hyper, table)


def test_target_is_the_hand_computed_n_step_return_and_bootstraps_across_a_takeover():
    """40 steps, the person drives from step 18 on: the policy's window from 15 is cut to 3 steps and bootstraps."""
    job = job_of(mixed_episode(CONTRACT, 0, takeover=18))
    w = job.replay.windows(gamma=GAMMA, max_length=MAX_LENGTH, failure_cost=COST)
    assert w.length.tolist() == [5, 5, 5, 3, 5, 5, 5, 5, 2]
    next_q = torch.full((2, len(w), 1), -0.7)
    y = td_target(w.reward, w.discount, next_q)[0]
    cost = [sum(GAMMA**k for k in range(n)) / MAX_LENGTH for n in range(6)]
    assert y[0].item() == pytest.approx(-cost[5] + GAMMA**5 * -0.7)
    assert y[3].item() == pytest.approx(-cost[3] + GAMMA**3 * -0.7)
    assert w.next_obs[3] == w.obs[4] and w.source[4] == int(Source.HUMAN)
    assert y[8].item() == pytest.approx(-cost[1])  # the last step of a success costs nothing and nothing follows


@pytest.mark.parametrize(
    ("outcome", "discount", "last"), [(Outcome.FAILURE, 0.0, -COST), (Outcome.ABORTED, GAMMA**5, -1.0)]
)
def test_failure_ends_the_bootstrap_and_an_abort_does_not(outcome, discount, last):
    job = job_of(reach_episode(CONTRACT, 0, source=Source.POLICY, outcome=outcome))
    w = job.replay.windows(gamma=GAMMA, max_length=MAX_LENGTH, failure_cost=COST)
    assert w.discount[-1].item() == pytest.approx(discount)
    expected = (-sum(GAMMA**k for k in range(4)) + GAMMA**4 * last) / MAX_LENGTH
    assert w.reward[-1].item() == pytest.approx(expected, rel=1e-5)


def test_critic_and_policy_learn_without_reaching_each_other():
    job = job_of(reach_episode(CONTRACT, 0), mixed_episode(CONTRACT, 1))
    policy, table, critic = table_of(job)
    bank = sample_bank(policy, critic, table, job.hyper, 4)
    assert not bank.requires_grad
    fit_critic(critic, policy, table, bank, job, 3)
    assert all(p.grad is None for p in policy.parameters())
    critic.zero_grad(set_to_none=True)
    before = [p.clone() for p in critic.parameters()]
    refit(policy, job, Examples(table.windows, torch.arange(len(table.windows)), torch.rand(len(table.windows))))
    assert any(p.grad is not None for p in policy.parameters())
    assert all(p.grad is None and torch.equal(p, b) for p, b in zip(critic.parameters(), before, strict=True))


def test_actor_of_sac_follows_the_critic_and_does_not_move_it():
    job = job_of(reach_episode(CONTRACT, 0), reach_episode(CONTRACT, 1, source=Source.POLICY))
    policy, table, critic = table_of(job)
    actor = gaussian(policy)
    sac = SoftActorCritic(job, actor, critic, table, torch.arange(16))

    def gradients(keep):
        torch.manual_seed(5)
        for module in (critic, actor, sac.temperature):
            module.zero_grad(set_to_none=True)
        if not keep:  # an actor and a temperature that do not matter
            sac.head.requires_grad_(False)
        sac.loss(0).backward()
        sac.head.requires_grad_(True)
        return [p.grad.clone() for p in critic.parameters()]

    with_actor = gradients(True)
    assert any(p.grad.abs().sum() > 0 for p in actor.head.parameters())
    assert all(p.grad is None for n, p in actor.named_parameters() if not n.startswith("head."))
    assert all(torch.equal(a, b) for a, b in zip(with_actor, gradients(False), strict=True))
    # Knots 0 and 5 (and the last, by interpolation) move the 5 steps that the critic sees.
    assert sac.scored.view(policy.knots, 2)[:, 0].tolist() == [1.0, 1.0, 0.0]


def test_only_what_a_person_did_pulls_at_the_scored_knots_of_sac():
    job = job_of(reach_episode(CONTRACT, 0), reach_episode(CONTRACT, 1, source=Source.POLICY))
    policy, table, critic = table_of(job)
    sac = SoftActorCritic(job, gaussian(policy), critic, table, torch.arange(16))
    human = table.windows.source == int(Source.HUMAN)

    def error(rows, pull):
        sac.job = replace(job, hyper=job.hyper.model_copy(update={"serl_imitation": pull}))
        pick = rows.nonzero().squeeze(1)
        return sac.imitation(pick, table.windows.chunk[pick]).item()

    assert error(~human, 30.0) == error(~human, 0.0) > 0
    one = error(human, 1.0) - error(human, 0.0)
    assert one > 0 and error(human, 30.0) - error(human, 0.0) == pytest.approx(30 * one, rel=1e-4)


def test_a_new_critic_of_sac_is_fitted_before_the_actor_moves():
    job = job_of(reach_episode(CONTRACT, 0), reach_episode(CONTRACT, 1, source=Source.POLICY))
    policy, table, critic = table_of(job)
    actor = gaussian(policy)
    sac = SoftActorCritic(job, actor, critic, table, torch.arange(16))
    before, fitted = [p.clone() for p in actor.parameters()], [p.clone() for p in critic.parameters()]
    sac.warm_up()
    assert all(torch.equal(p, b) for p, b in zip(actor.parameters(), before, strict=True))
    assert any(not torch.equal(p, b) for p, b in zip(critic.parameters(), fitted, strict=True))
    human = torch.cat([table.windows.source[sac.draw(64)] for _ in range(20)]) == int(Source.HUMAN)
    assert float(human.double().mean()) == 0.5

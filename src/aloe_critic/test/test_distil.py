"""The distilled short-chunk critic (DQC): against brute force on the corridor, and on the learner's own code."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from aloe_core.episode.data import Outcome, Source
from aloe_core.episode.transitions import chunk_transitions
from aloe_core.errors import AloeError
from aloe_critic.distil import distillation, fit_distilled, long_steps
from aloe_critic.features import compute_features
from aloe_critic.hyper import make_hyper
from aloe_critic.job import Job
from aloe_critic.learners import aloe, bc, td1
from aloe_critic.replay import Replay
from aloe_critic.returns import longer
from aloe_critic.scale import kept_critic
from aloe_critic.td import ChunkTable, data_tokens, fit_critic, new_critic, sample_bank, td_target
from aloe_policy.config import FlowConfig
from aloe_policy.model import FlowPolicy
from synthetic import mixed_episode, reach_episode, small_contract
from test_tabular import CAP, CHUNKS, GAMMA, POLICY, SCORES, STATES, episode, move

LONG, GOAL = 4, STATES - 1
LONG_CHUNKS = list(itertools.product((-1, 1), repeat=LONG))
KAPPA = 0.8


# The corridor: chunks of two moves distilled from chunks of four


def expectile(values: np.ndarray, kappa: float) -> float:
    """By bisection on its first-order condition."""
    low, high = float(values.min()), float(values.max())
    for _ in range(60):
        middle = (low + high) / 2
        above = (np.where(values > middle, kappa, 1 - kappa) * (values - middle)).sum() > 0
        low, high = (middle, high) if above else (low, middle)
    return (low + high) / 2


def exact(kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """Short and long values where completions are uniform, as in the data, by iterating over the known corridor."""
    short, long = np.zeros((STATES, len(CHUNKS))), np.zeros((STATES, len(LONG_CHUNKS)))
    for _ in range(100):
        v = short @ POLICY
        for s, (c, chunk) in itertools.product(range(GOAL), enumerate(LONG_CHUNKS)):
            here, total = s, 0.0
            for k, a in enumerate(chunk):
                here = move(here, a)
                if here == GOAL:
                    break
                total -= GAMMA**k / CAP
            long[s, c] = total + (0.0 if here == GOAL else GAMMA**LONG * v[here])
        for s, (c, chunk) in itertools.product(range(GOAL), enumerate(CHUNKS)):
            completions = [long[s, i] for i, whole in enumerate(LONG_CHUNKS) if whole[:2] == chunk]
            short[s, c] = expectile(np.array(completions), kappa)
    return short, long


def windows_of(episodes):
    """State, long cells that it stands for, short cell, reward, discount, next state of each window."""
    rows = []
    for ep in episodes:
        tr = chunk_transitions(ep, LONG, stride=1, **SCORES)
        for i in range(len(tr)):
            if tr.start[i] + LONG > CAP:
                continue  # of those cut by time only the successful ones would be left
            s, ran = int(ep.state[tr.start[i], 0]), tuple(int(a) for a in ep.executed[tr.start[i] : tr.next[i], 0])
            cells = [s * 16 + c for c, whole in enumerate(LONG_CHUNKS) if whole[: len(ran)] == ran]
            begins = [s * 4 + c for c, chunk in enumerate(CHUNKS) if chunk[: len(ran)] == ran[:2]]
            rows.append((cells, begins, tr.reward[i], tr.discount[i], int(ep.state[tr.next[i], 0])))
    return rows


def test_distilled_values_are_expectiles_of_long_values_over_completions():
    rows = windows_of(episode(seed) for seed in range(3000))
    reward, discount = (torch.tensor([row[k] for row in rows]) for k in (2, 3))
    after = torch.tensor([row[4] for row in rows])
    cell = torch.tensor([c for row in rows for c in row[0]])
    row_of_cell = torch.tensor([i for i, row in enumerate(rows) for _ in row[0]])
    begin = torch.tensor([b for row in rows for b in row[1]])
    ended = torch.tensor([row[0][0] for row in rows for _ in row[1]])  # cells of one window are alike: it ended there
    short = torch.zeros(1, STATES * 4, requires_grad=True)
    count = torch.bincount(cell, minlength=STATES * 16).clamp_min(1)
    for _ in range(25):
        next_v = (short.detach().view(STATES, 4) @ torch.tensor(POLICY).float())[after][None, :, None]
        y = td_target(reward, discount, next_v)[0]
        long = torch.zeros(STATES * 16).index_add_(0, cell, y.float()[row_of_cell]) / count
        optimizer = torch.optim.LBFGS([short], max_iter=30, line_search_fn="strong_wolfe")

        def closure(optimizer=optimizer, long=long):
            optimizer.zero_grad()
            loss = distillation(short[:, begin], long[ended][None], KAPPA)
            loss.backward()
            return loss

        optimizer.step(closure)
    wanted, wanted_long = exact(KAPPA)
    scale = np.abs(wanted).max()
    found = short.detach().view(STATES, 4).numpy()
    assert np.abs(found - wanted)[:GOAL].max() < 0.02 * scale
    assert np.abs(long.view(STATES, 16).numpy() - wanted_long)[:GOAL].max() < 0.02 * scale
    assert np.abs(exact(0.5)[0] - wanted).max() > 0.05 * scale, "the mean over completions is something else"


# The learner


CONTRACT = small_contract()
SMALL = {
    "critic_width": 32, "critic_layers": 2, "critic_batch": 64, "bank": 4, "threads": 1, "keypoints": 4,
    "width_head": 16, "bc_steps": 5, "bc_batch": 8, "bc_head_steps": 5, "head_batch": 16, "long_chunk": 10,
}  # fmt: skip
SCALE = {"max_length": 40, "failure_cost": 40}


def job_of(episodes, **overrides):
    torch.manual_seed(0)
    replay = Replay(CONTRACT, stride=5, buckets=512)
    for ep in episodes:
        replay.add(ep)
    return Job(CONTRACT, replay, make_hyper(SMALL | overrides), lambda *_: None)


def test_longer_windows_are_those_cut_from_the_episode_at_that_length():
    """Runs of 20 and 20, 13 and 27, 40 and 12 steps: cut at takeovers and ends, whatever the stride leaves over."""
    episodes = [
        mixed_episode(CONTRACT, 0),
        mixed_episode(CONTRACT, 1, takeover=13, outcome=Outcome.FAILURE),
        reach_episode(CONTRACT, 2),
        replace(reach_episode(CONTRACT, 3, steps=12), end="truncated"),
    ]
    job = job_of(episodes)
    w = job.replay.windows(gamma=0.97, **SCALE)
    long = longer(w, 5, 0.97, 40, 10)
    for number, ep in enumerate(episodes):
        mine = long.episode == number
        tr = chunk_transitions(ep, 10, stride=5, gamma=0.97, **SCALE)
        assert long.length[mine].tolist() == (tr.next - tr.start).tolist()
        np.testing.assert_allclose(long.reward[mine].numpy(), tr.reward, atol=1e-6)
        np.testing.assert_allclose(long.discount[mine].numpy(), tr.discount, atol=1e-6)
        np.testing.assert_allclose(job.replay.state()[long.next_obs[mine]].numpy(), ep.state[tr.next])


def test_networks_learn_the_expectile_over_what_followed_the_same_beginning():
    """Ten steps, of which the first five are alike; the last five decide between success and failure."""

    def one(seed, side, outcome):
        ep = reach_episode(CONTRACT, seed, steps=10, outcome=outcome)
        executed = np.zeros_like(ep.executed)
        executed[5:] = side
        return replace(ep, executed=executed, state=np.zeros_like(ep.state))

    job = job_of(
        [one(1, 1.0, Outcome.SUCCESS), one(2, -1.0, Outcome.FAILURE)], critic_lr=3e-3, tau=0.1, distil_expectile=0.8
    )
    policy = FlowPolicy(FlowConfig.for_contract(CONTRACT, keypoints=4, width_head=16))
    w = job.replay.windows(gamma=1.0, max_length=10, failure_cost=10)
    first = w.plan_length == 10
    z = torch.zeros(job.replay.rows, policy.feature_dim)
    z[w.obs[first]] = 1.0  # both begin alike
    table = ChunkTable(w, z, job.replay.state(), 10, 10)
    critic = new_critic(policy, job.hyper, table, long_steps=10)
    bank = sample_bank(policy, critic, table, job.hyper, 4)
    fit_distilled(critic, policy, table, bank, job, 500, "critic")
    returns = longer(w, 5, 1.0, 10, 10).reward[first].numpy()
    assert sorted(returns.tolist()) == pytest.approx([-1.9, -0.9])
    with torch.no_grad():
        q = critic(z[w.obs], data_tokens(policy, critic, table)).squeeze(-1)[:, first]
        q_long = critic.long(z[w.obs], data_tokens(policy, critic.long, table)).squeeze(-1)[:, first]
    np.testing.assert_allclose(q_long.mean(0).numpy(), returns, atol=0.05)
    np.testing.assert_allclose(q.mean(0).numpy(), [expectile(returns, 0.8)] * 2, atol=0.05)


def test_a_distilled_critic_learns_the_return_of_the_only_behaviour_there_is():
    job = job_of([reach_episode(CONTRACT, 3)], gamma=0.98, tau=0.05, critic_lr=3e-3, heads=2)
    policy = FlowPolicy(FlowConfig.for_contract(CONTRACT, keypoints=4, width_head=16))
    w = job.replay.windows(gamma=0.98, **SCALE)
    table = ChunkTable(w, compute_features(policy, job.replay), job.replay.state(), 40, 40)
    critic = new_critic(policy, job.hyper, table, long_steps=10)
    for one in (critic, critic.long):
        one.action_std.fill_(1e3)  # whatever a policy does counts as what was done
    fit_distilled(critic, policy, table, sample_bank(policy, critic, table, job.hyper, 4), job, 700, "critic")
    rewards = np.full(40, -1 / 40)
    rewards[-1] = 0
    returns = [sum(0.98**k * r for k, r in enumerate(rewards[s:])) for s in range(0, 40, 5)]
    q = critic(table.z[w.obs], data_tokens(policy, critic, table)).mean(0).squeeze(-1)
    np.testing.assert_allclose(q.detach().numpy(), returns, atol=0.06)


def test_aloe_distils_and_goes_on_with_both_critics():
    few = {"critic_steps": 5, "actor_steps": 2, "actor_head_steps": 2, "refresh_steps": 2}
    episodes = [reach_episode(CONTRACT, 0), reach_episode(CONTRACT, 1, source=Source.POLICY)]
    job = job_of(episodes, **few)
    job.policy = bc.learn(job).policy
    for learn in (aloe.learn, aloe.learn_select, aloe.learn_takeover):
        learned = learn(job)
        assert learned.critic.long is not None and "q_long_mean" in learned.metrics
    later = replace(job, critic=learned.critic, reward_scale=learned.reward_scale)
    assert kept_critic(later, job.policy, long_steps=10)[0] is learned.critic
    assert td1.learn(job).critic.long is None, "td1 looks one observation ahead, whatever is said of long chunks"


def test_off_a_critic_is_what_it_was():
    job = job_of([reach_episode(CONTRACT, 0)], long_chunk=0)
    policy = FlowPolicy(FlowConfig.for_contract(CONTRACT, keypoints=4, width_head=16))
    w = job.replay.windows(gamma=0.98, **SCALE)
    table = ChunkTable(w, compute_features(policy, job.replay), job.replay.state(), 40, 40)
    critic = new_critic(policy, job.hyper, table)
    assert critic.long is None and not [name for name in critic.state_dict() if name.startswith("long")]
    fit_critic(critic, policy, table, sample_bank(policy, critic, table, job.hyper, 4), job, 2)


@pytest.mark.parametrize("steps", [5, 7, 15])
def test_long_chunks_that_do_not_fit_are_refused(steps):
    job = job_of([reach_episode(CONTRACT, 0)], long_chunk=steps)
    policy = FlowPolicy(FlowConfig.for_contract(CONTRACT, keypoints=4, width_head=16))
    with pytest.raises(AloeError, match=f"long_chunk = {steps}: expected a multiple of the stride of 5, more than the"):
        long_steps(job, policy)

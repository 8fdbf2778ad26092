"""The learner on flat states: its targets, what its updates touch, and that selection by Q finds the better chunks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aloe_core.errors import AloeError
from aloe_critic.flat.config import FlatConfig, qc
from aloe_critic.flat.data import Transitions
from aloe_critic.flat.learner import FlatLearner

SMALL = {"width": 32, "batch": 64, "heads": 3}


def transitions(n: int = 256, discount: float = 0.0) -> Transitions:
    """One-step decisions: chunks of two actions near +0.5 or -0.5, and the reward says that +0.5 is right."""
    torch.manual_seed(0)
    side = torch.where(torch.rand(n, 1) < 0.5, -0.5, 0.5)
    chunk = side + 0.05 * torch.randn(n, 2)
    rows = torch.arange(n)
    return Transitions(
        states=torch.randn(n, 3),
        start=rows,
        end=rows,
        chunk=chunk,
        reward=-(chunk - 0.5).abs().mean(1),
        discount=torch.full((n,), discount),
    )


def weights(module: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(before: list[Tensor], module: torch.nn.Module) -> bool:
    return all(torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


def test_the_critic_is_fitted_to_reward_plus_the_discounted_pessimistic_value_of_a_fresh_chunk():
    data = transitions(8, discount=0.9)
    learner = FlatLearner(data, FlatConfig(**SMALL))
    noise = torch.randn(8, 1, 2)
    loss = learner.critic_loss(data.states, data.chunk, data.reward, data.discount, data.states, noise)
    with torch.no_grad():
        fresh = learner.actor.sample(data.states, noise).clamp(-1, 1)
        y = data.reward + 0.9 * learner.target(data.states, fresh).squeeze(-1).min(0).values
        q = learner.critic(data.states, data.chunk[:, None]).squeeze(-1)
    assert loss.item() == pytest.approx((q - y).square().mean(1).sum().item(), rel=1e-5)


def test_q_chunking_takes_the_best_of_the_banked_chunks_by_the_mean_of_the_heads():
    data = transitions(8, discount=0.9)
    bank = torch.rand(8, 4, 2) * 2 - 1
    learner = FlatLearner(data, qc(width=32, batch=64, samples=4), bank=bank)
    loss = learner.critic_loss(data.states, data.chunk, data.reward, data.discount, data.states, bank)
    with torch.no_grad():
        y = data.reward + 0.9 * learner.target(data.states, bank).mean(0).max(-1).values
        q = learner.critic(data.states, data.chunk[:, None]).squeeze(-1)
    assert loss.item() == pytest.approx((q - y).square().mean(1).sum().item(), rel=1e-5)


@pytest.mark.parametrize("policy", ["flow", "distilled"])
@pytest.mark.parametrize("actor", ["mlp", "blocks"])
def test_each_update_moves_its_own_network_alone(policy, actor):
    learner = FlatLearner(transitions(), FlatConfig(**SMALL, policy=policy, actor=actor))
    actors, critics, targets = weights(learner.actor), weights(learner.critic), weights(learner.target)
    learner.update_critic()
    assert same(actors, learner.actor) and not same(critics, learner.critic)
    moved = zip(targets, learner.critic.parameters(), learner.target.parameters(), strict=True)
    assert all(torch.allclose(torch.lerp(old, new, 0.005), target) for old, new, target in moved)
    critics = weights(learner.critic)
    learner.update_actor()
    assert same(critics, learner.critic) and not same(actors, learner.actor)


def test_the_weight_of_a_transition_decides_whether_its_chunk_is_imitated():
    data = transitions()
    learner = FlatLearner(data, FlatConfig(**SMALL, lr=3e-3))
    learner.weight = (data.chunk.mean(1) > 0).float() * 2
    for _ in range(300):
        learner.update_actor()
    assert (learner.chunks(data.states, 4).mean(-1) > 0).float().mean() > 0.9


def test_selection_by_q_finds_the_better_half_of_what_was_cloned():
    data = transitions()
    learner = FlatLearner(data, FlatConfig(**SMALL, lr=3e-3))
    for _ in range(300):
        learner.update()
    cloned = (learner.chunks(data.states, 1).mean(-1) > 0).float().mean()
    selected = (learner.act(data.states, 8).mean(-1) > 0).float().mean()
    assert 0.25 < cloned < 0.75 and selected > 0.95


def test_a_distilled_policy_climbs_q_as_far_as_its_distance_from_the_flow_allows():
    data = transitions()
    learner = FlatLearner(data, FlatConfig(**SMALL, lr=3e-3, policy="distilled", alpha=0.1))
    for _ in range(400):
        learner.update()
    assert (learner.chunks(data.states, 4).mean(-1) > 0).float().mean() > 0.9


def test_a_bank_holds_chunks_of_the_policy_for_every_state():
    learner = FlatLearner(transitions(50), FlatConfig(**SMALL))
    bank = learner.make_bank(8)
    assert bank.shape == (50, 8, 2) and bank.abs().max() <= 1


def test_compiled_losses_are_the_losses():
    data, noise = transitions(8), torch.randn(8, 1, 2)
    learner = FlatLearner(data, FlatConfig(**SMALL))
    arguments = (data.states, data.chunk, data.reward, data.discount, data.states, noise)
    compiled = torch.compile(learner.critic_loss, dynamic=False, backend="aot_eager")
    assert compiled(*arguments).item() == pytest.approx(learner.critic_loss(*arguments).item(), rel=1e-5)


def two_steps(n: int = 512) -> Transitions:
    """Chunks of two numbers that each go up or down; a policy makes the first, and only both up is right."""
    torch.manual_seed(0)
    chunk = torch.where(torch.rand(n, 2) < 0.5, -0.5, 0.5)
    rows = torch.arange(n)
    reward = (chunk > 0).all(1).float() - 1
    return Transitions(torch.zeros(n, 3), rows, rows, chunk + 0.02 * torch.randn(n, 2), reward, torch.zeros(n))


def test_a_distilled_critic_scores_a_beginning_by_the_expectile_of_how_it_goes_on():
    """Up is worth 0 or -1, equally often, of which the expectile of 0.8 is -0.2; down is worth -1."""
    learner = FlatLearner(two_steps(), FlatConfig(**SMALL, lr=3e-3, short=1, expectile=0.8))
    for _ in range(500):
        learner.update_critic()
    q = learner.critic(torch.zeros(1, 3), torch.tensor([[[0.5], [-0.5]]])).mean(0)[0]
    torch.testing.assert_close(q.detach(), torch.tensor([-0.2, -1.0]), atol=0.06, rtol=0)
    for _ in range(300):
        learner.update_actor()
    assert learner.act(torch.zeros(64, 3), 8).shape == (64, 1), "the policy makes the beginning alone"
    assert (learner.act(torch.zeros(64, 3), 8) > 0).float().mean() > 0.95


def test_a_distilled_critic_goes_on_where_it_was_saved():
    learner, other = (FlatLearner(two_steps(), FlatConfig(**SMALL, short=1)) for _ in range(2))
    for _ in range(3):
        learner.update()
    other.load_state({name: value.clone() for name, value in learner.state().items()})
    for one in (learner, other):
        torch.manual_seed(5)
        one.update()
    assert same(weights(learner.long), other.long) and same(weights(learner.critic), other.critic)


def test_a_beginning_as_long_as_its_chunk_is_refused():
    with pytest.raises(AloeError, match="short = 2: expected fewer than the 2 numbers"):
        FlatLearner(two_steps(), FlatConfig(**SMALL, short=2))


def test_an_update_takes_both_gradients_at_the_weights_before_it():
    """As the Q-chunking code does: the policy climbs the critic that was, not the one just stepped."""
    learner, other = (FlatLearner(transitions(), FlatConfig(**SMALL, lr=3e-2, policy="distilled")) for _ in range(2))
    other.load_state({name: value.clone() for name, value in learner.state().items()})
    torch.manual_seed(1)
    learner.update()
    torch.manual_seed(1)
    _, gradients = other._critic_gradients()
    other.update_actor()
    other._step_critic(gradients)
    for mine, theirs in zip(learner._modules().values(), other._modules().values(), strict=True):
        assert same(weights(mine), theirs)

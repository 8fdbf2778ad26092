"""The ensemble against a plain loop, the Gaussian head against torch.distributions, guidance against its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, TanhTransform

from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.flow import BETTER, UNSAID, FlowHead
from aloe_policy.gaussian import EDGE, GaussianHead

BASE = {"feature_dim": 6, "action_dim": 2, "steps": 5, "knot_stride": 2, "heads": 3, "width": 8}


def critic_of(**changes):
    torch.manual_seed(0)
    return ChunkCritic(CriticConfig(**(BASE | changes))).double()


def inputs(critic, n=4):
    torch.manual_seed(1)
    z = torch.randn(5, 6, dtype=torch.float64)
    return z, torch.randn(5, n, critic.act.in_features, dtype=torch.float64)


@pytest.mark.parametrize("shared", [False, True])
def test_ensemble_is_a_loop_over_plain_networks(shared):
    critic = critic_of(shared_trunk=shared)
    z, tokens = inputs(critic)
    w = 8
    for head in range(3):
        trunk = 0 if shared else head
        part = slice(trunk * w, (trunk + 1) * w)
        h = z[:, None] @ critic.obs.weight[part].T + critic.obs.bias[part] + tokens @ critic.act.weight[part].T
        h = F.silu(F.layer_norm(h, (w,)))
        for layer in critic.hidden:
            h = F.silu(F.layer_norm(h @ layer.weight[trunk] + layer.bias[trunk], (w,)))
        column = head if shared else 0
        q = h @ critic.out.weight[trunk, :, column] + critic.out.bias[trunk, 0, column]
        torch.testing.assert_close(critic(z, tokens)[head], q)


def test_every_layer_of_the_ensemble_is_one_matrix_product(monkeypatch):
    critic, calls = critic_of(), []
    for name in ("bmm", "baddbmm"):
        real = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, real=real: calls.append(1) or real(*a))
    critic(*inputs(critic))
    assert len(calls) == 5  # observation and actions of the first layer, two hidden layers, the output: for all heads


def test_gradients_of_the_critic_are_right():
    critic = critic_of(heads=2, width=4, prior=0.5)
    z, tokens = inputs(critic, n=2)
    z, tokens = z[:2, :].requires_grad_(), tokens[:2].requires_grad_()
    assert torch.autograd.gradcheck(critic, (z, tokens))
    weight = critic.hidden[0].weight.detach().requires_grad_()

    def loss(value):
        return torch.func.functional_call(critic, {"hidden.0.weight": value}, (z.detach(), tokens.detach()))

    assert torch.autograd.gradcheck(loss, (weight,))


def test_priors_differ_by_head_never_learn_and_scale_as_told():
    critic = critic_of(prior=0.5)
    z, tokens = inputs(critic)
    critic(z, tokens).sum().backward()
    assert all(p.grad is None for p in critic.prior.parameters())
    plain = super(ChunkCritic, critic).forward(z, tokens)
    added = critic(z, tokens) - plain
    torch.testing.assert_close(added, 0.5 * critic.prior(z, tokens))
    assert added.std(0).min() > 0


@pytest.mark.parametrize(
    ("pessimism", "expected"),
    [("min", [-3.0, -1.0]), ("mean", [-2.0, -1.0]), ("lcb", [-3.0, -1.0]), ("quantile", [-2.5, -1.0])],
)
def test_pessimism_is_what_its_name_says(pessimism, expected):
    q = torch.tensor([[-1.0, -1.0], [-3.0, -1.0]], dtype=torch.float64)
    assert critic_of(heads=2, pessimism=pessimism).pessimistic(q).tolist() == expected


def test_gaussian_density_is_that_of_a_squashed_normal():
    torch.manual_seed(0)
    head = GaussianHead(4, 6, 16, bound=3.0)
    z, noise = torch.randn(50, 6), torch.randn(50, 4)
    x, density = head.rsample(z, noise)
    mean, std = head.distribution(z)
    reference = TransformedDistribution(Normal(mean, std), [TanhTransform(), AffineTransform(0.0, 3.0)])
    torch.testing.assert_close(density, reference.log_prob(x), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(head.log_prob(z, x), density, atol=2e-3, rtol=1e-3)
    assert x.abs().max() < 3.0
    far = torch.full((50, 4), 99.0)
    assert torch.isfinite(head.log_prob(z, far)).all()
    torch.testing.assert_close(head.log_prob(z, far), head.log_prob(z, torch.full((50, 4), 3.0 * EDGE)))


def test_gaussian_learns_mean_and_spread_of_data():
    torch.manual_seed(0)
    head = GaussianHead(1, 1, 32)
    z = torch.ones(256, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(400):
        data = 0.7 + 0.3 * torch.randn(256, 1)
        optimizer.zero_grad()
        head.loss(z, data, torch.ones(256, 1)).mean().backward()
        optimizer.step()
    sample = head.sample(z[:1], torch.randn(1, 4000, 1))
    assert sample.mean().item() == pytest.approx(0.7, abs=0.06)
    assert sample.std().item() == pytest.approx(0.3, abs=0.06)


def test_the_first_sample_of_a_gaussian_is_its_mode_whatever_the_noise():
    torch.manual_seed(0)
    head = GaussianHead(3, 2, 16)
    z = torch.randn(5, 2)
    one, other = (head.sample(z, torch.randn(5, 4, 3)) for _ in range(2))
    assert torch.equal(one[:, 0], other[:, 0]) and not torch.equal(one[:, 1], other[:, 1])
    torch.testing.assert_close(one[:, 0], head.bound * head.distribution(z)[0].tanh())


def test_a_narrow_gaussian_does_not_stop_learning_what_is_hard():
    """Half of the entries never vary; the likelihood alone would leave the others for the last."""
    torch.manual_seed(0)
    head = GaussianHead(2, 1, 64)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(400):
        z = torch.rand(128, 1) * 2 - 1
        data = torch.cat([torch.zeros_like(z), (4 * z).sin()], 1)
        optimizer.zero_grad()
        head.loss(z, data, torch.ones(128, 2)).mean().backward()
        optimizer.step()
    z = torch.linspace(-0.9, 0.9, 50)[:, None]
    error = head.sample(z, torch.zeros(50, 1, 2))[:, 0, 1] - (4 * z[:, 0]).sin()
    assert float(error.square().mean()) < 0.01


def flow_of(guidance):
    torch.manual_seed(0)
    head = FlowHead(3, 4, 16, 1, 2, indicator=True, guidance=guidance)
    torch.nn.init.normal_(head.indicator.weight)
    torch.nn.init.normal_(head.blocks[0].outer.weight)
    return head


@pytest.mark.parametrize("g", [0.0, 1.0, 2.5])
def test_guided_field_extrapolates_from_the_unconditioned_one(g):
    head = flow_of(g)
    z, noise = torch.randn(2, 4), torch.randn(2, 5, 3)
    x = noise
    for i in range(2):
        t = torch.full((2, 5, 1), i / 2)
        free, better = (
            head.velocity(x, t, head.condition(z, said)[:, None].expand(-1, 5, -1)) for said in (UNSAID, BETTER)
        )
        x = x + (free + g * (better - free)) / 2
    torch.testing.assert_close(head.sample(z, noise), x)


def test_indicator_that_has_learned_nothing_changes_nothing():
    torch.manual_seed(0)
    plain = FlowHead(3, 4, 16, 1, 2)
    said = FlowHead(3, 4, 16, 1, 2, indicator=True, guidance=2.0)
    said.load_state_dict(plain.state_dict(), strict=False)
    z, noise = torch.randn(2, 4), torch.randn(2, 5, 3)
    torch.testing.assert_close(said.sample(z, noise), plain.sample(z, noise))

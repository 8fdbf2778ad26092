"""The plain velocity field: its split first layer, its samples and its loss against plain arithmetic."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from aloe_policy.flow_mlp import FlowMLP


def field(dim: int = 3, cond: int = 4, **options: int) -> FlowMLP:
    torch.manual_seed(0)
    return FlowMLP(dim, cond, **({"width": 8, "layers": 3, "steps": 4} | options)).double()


def test_the_split_first_layer_is_that_of_the_whole_input():
    net = field()
    z, x, t = torch.randn(5, 4).double(), torch.randn(5, 3).double(), torch.rand(5, 1).double()
    weight = torch.cat([net.cond.weight, net.embed.weight], 1)
    h = F.silu(F.linear(torch.cat([z, x, t], 1), weight, net.cond.bias))
    for layer in net.hidden:
        h = F.silu(layer(h))
    assert torch.allclose(net.velocity(x, t, net.cond(z)), net.out(h))


def test_samples_are_the_euler_steps_of_the_field_for_each_state():
    net = field()
    z, noise = torch.randn(2, 4).double(), torch.randn(2, 5, 3).double()
    found = net.sample(z, noise)
    for b in range(2):
        for n in range(5):
            x = noise[b, n]
            for i in range(4):
                x = x + net.velocity(x, i / 4, net.cond(z[b])) / 4
            assert torch.allclose(found[b, n], x)


def test_the_loss_is_zero_for_the_velocity_that_is_asked_for_and_its_gradient_is_right():
    net = field()
    z, data, drawn = torch.randn(6, 4).double(), torch.randn(6, 3).double(), net.draw(6, torch.zeros(1).double())
    noise = drawn[:, :-1]
    net.velocity = lambda x, t, c: data - noise
    assert net.loss(z, data, drawn).abs().max() < 1e-24
    del net.velocity
    weight = net.hidden[0].weight.detach().clone().requires_grad_()

    def loss(value):
        net.hidden[0].weight.data = value.detach()
        return torch.func.functional_call(_Loss(net), {"net.hidden.0.weight": value}, (z, data, drawn))

    assert torch.autograd.gradcheck(loss, (weight,))


class _Loss(torch.nn.Module):
    def __init__(self, net: FlowMLP) -> None:
        super().__init__()
        self.net = net

    def forward(self, z, data, drawn):
        return self.net.loss(z, data, drawn).mean()

"""Real-time chunking and ensembling: the equations, and what chunks of the native policy do with a plan."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.errors import AloeError
from aloe_policy.chunking import Chunking
from aloe_policy.config import FlowConfig
from aloe_policy.ensembling import ensembled
from aloe_policy.flow import FlowHead
from aloe_policy.interface import Prefix
from aloe_policy.model import FlowPolicy, ObsBatch
from aloe_policy.native import NativePolicy
from aloe_policy.rtc import guidance, guided_sample, led_over, prefix_weights

H, A = 16, 2
CONFIG = FlowConfig(
    cameras=(), objects=3, height=1, width=1, state_dim=A, action_dim=A, horizon=H, execute=6, knot_stride=3,
    width_head=32, blocks_head=2, flow_steps=8,
)  # fmt: skip
OBS = ObsBatch(None, torch.zeros(1, A), torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 3))
PLANNED = torch.linspace(0, 0.5, 12)[:, None] * torch.tensor([1.0, -1.0])


@pytest.fixture(scope="module")
def net():
    """A flow whose field is far from simple, so that its Jacobian matters."""
    torch.manual_seed(0)
    net = FlowPolicy(CONFIG).eval()
    for parameter in net.head.parameters():
        torch.nn.init.normal_(parameter, 0, 0.15)
    net.knot_std.fill_(0.3)
    return net


def sampled(net, mode, prefix, n=4, seed=3):
    return NativePolicy(net, Chunking(mode)).sample(OBS, n, prefix, generator=torch.Generator().manual_seed(seed))


def test_weights_of_the_reference_example():
    expected = torch.tensor([1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5, 0, 0])
    torch.testing.assert_close(prefix_weights(2, 6, 8), expected)


@given(st.integers(1, 60), st.data())
def test_weights_fall_from_one_to_zero(horizon, data):
    end = data.draw(st.integers(0, horizon))
    frozen = data.draw(st.integers(0, end))
    w = prefix_weights(frozen, end, horizon)
    assert (w[:frozen] == 1).all() and (w[end:] == 0).all() and (w.diff() <= 0).all()
    assert (w[frozen:end] > 0).all() and (w[frozen:end] < 1).all()


@pytest.mark.parametrize(("t", "expected"), [(0.0, 5.0), (0.5, 2.0), (0.25, 10 / 3), (0.999, 5.0)])
def test_guidance_is_that_of_the_paper_and_bounded(t, expected):
    assert guidance(t) == pytest.approx(expected)


def test_one_guided_step_is_the_reference_equation():
    """v' = v + min(c / r^2, g_max) J^T [(Y - x_1) * W], with the Jacobian written out."""
    torch.manual_seed(1)
    head = FlowHead(4, 3, 8, 1, steps=2).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    z, x = torch.randn(1, 3).double(), torch.randn(1, 1, 4).double()
    y, w = torch.randn(4).double(), torch.tensor([1, 0.5, 0.2, 0]).double()
    got = guided_sample(head, z, x, lambda x_1: (y - x_1) * w)
    field = head.field(z)
    for t in (0.0, 0.5):
        estimate = lambda x, t=t: x + (1 - t) * field(x, t)  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(estimate, x).reshape(4, 4)
        pull = jacobian.T @ ((y - estimate(x).flatten()) * w)
        scale = min((1 - t) / t * (t**2 + (1 - t) ** 2) / (1 - t) ** 2, 5.0) if t else 5.0
        x = (x + (field(x, t) + scale * pull.view(1, 1, 4)) / 2).detach()
    torch.testing.assert_close(got, x)


def test_guided_chunks_go_on_from_the_plan_where_plain_ones_jump(net):
    plain, rtc = (sampled(net, mode, Prefix(PLANNED, 4)) for mode in ("receding", "rtc"))
    assert torch.equal(rtc[..., :4, :], PLANNED[:4].expand(1, 4, -1, -1)), "what will have run is copied"
    jump = [(chunks[..., 4, :] - PLANNED[4]).abs().max() for chunks in (plain, rtc)]
    assert jump[1] < 0.2 * jump[0]
    error = (rtc - plain)[..., :12, :].abs().mean((0, 1, 3))
    assert error[4] > error[10], "the pull fades over the overlap"


def test_what_guidance_leaves_of_the_difference_fades_over_the_overlap():
    """Weights 1 1 4/5 3/5 2/5 1/5 0 0: a flow that does not yield at all still leaves no jump."""
    mixed = led_over(torch.zeros(1, 2, 8, 1), torch.ones(6, 1), 2)
    expected = torch.tensor([1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5, 0, 0])
    torch.testing.assert_close(mixed, expected.view(1, 1, 8, 1).expand(1, 2, 8, 1))
    torch.testing.assert_close(led_over(torch.zeros(1, 1, 3, 1), torch.ones(9, 1), 1).flatten()[0], torch.tensor(1.0))


def test_inference_mode_changes_nothing_in_guided_samples(net):
    free = sampled(net, "rtc", Prefix(PLANNED, 4))
    with torch.inference_mode():
        inside = sampled(net, "rtc", Prefix(PLANNED, 4))
    assert torch.equal(free, inside) and not free.requires_grad
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("prefix", [None, Prefix(PLANNED, 0)])
def test_without_a_delay_rtc_is_plain_bit_for_bit(net, prefix):
    assert torch.equal(sampled(net, "rtc", prefix), sampled(net, "receding", prefix))


def test_interface_computes_what_the_network_computes(net):
    policy = NativePolicy(net)
    z = policy.features(OBS)
    knots = net.sample_knots(z, 3, torch.Generator().manual_seed(5))
    chunks = policy.sample(OBS, 3, generator=torch.Generator().manual_seed(5))
    assert torch.equal(chunks, net.decode_actions(knots, OBS.state))
    target, losses = chunks[:, 0], []
    for compute in (
        lambda: policy.flow_loss(OBS, target, torch.tensor([2.0])),
        lambda: 2 * net.flow_loss(z, OBS.state, target, torch.tensor([H])).mean(),
    ):
        torch.manual_seed(7)
        losses.append(compute())
    assert torch.equal(*losses) and losses[0].requires_grad


def test_ensembled_steps_are_the_mean_of_what_the_chunks_said():
    """Weights 1/2, 1/4, 1/4 for three chunks that overlap, and the newest alone where no other reaches."""
    one, two, three = (torch.full((1, 4, 1), v) for v in (0.0, 4.0, 8.0))
    second = ensembled(two, one[0, 1:])
    third = ensembled(three, second[0, 1:])
    assert third.flatten().tolist() == [(8 + (4 + 0) / 2) / 2, (8 + (4 + 0) / 2) / 2, (8 + 4) / 2, 8]


def test_ensemble_averages_the_overlap_and_keeps_what_will_have_run(net):
    plain, mean = (sampled(net, mode, Prefix(PLANNED, 4)) for mode in ("receding", "ensemble"))
    assert torch.equal(mean[..., :4, :], PLANNED[:4].expand(1, 4, -1, -1))
    torch.testing.assert_close(mean[..., 4:12, :], (plain[..., 4:12, :] + PLANNED[4:]) / 2)
    assert torch.equal(mean[..., 12:, :], plain[..., 12:, :])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "rct"}, "chunking = 'rct': expected one of receding, ensemble, rtc"),
        ({"fresh": 0.0}, "ensemble_fresh = 0"),
        ({"g_max": -1.0}, "guidance_max = -1"),
    ],
)
def test_chunking_that_makes_no_sense_is_refused(arguments, words):
    with pytest.raises(AloeError, match=words):
        Chunking(**arguments)


def test_knots_follow_a_correction_of_steps_by_least_squares(net):
    """The correction of knots, decoded, is the line between knots that is nearest to the correction of steps."""
    wanted = np.random.default_rng(0).normal(size=(H, 1))
    knots = NativePolicy(net)._to_knots.numpy() @ wanted
    best = np.linalg.lstsq(net.interpolation.numpy(), wanted, rcond=None)[0]
    np.testing.assert_allclose(knots, best, atol=1e-5)

"""A flow that is given the steps that will have run (training-time real-time chunking, arXiv 2512.05964)."""

from __future__ import annotations

import pytest
import torch

from aloe_core.errors import AloeError
from aloe_policy.chunking import Chunking
from aloe_policy.config import FlowConfig
from aloe_policy.flow import FlowHead
from aloe_policy.given import drawn_delay
from aloe_policy.interface import Prefix
from aloe_policy.model import FlowPolicy, ObsBatch
from aloe_policy.native import NativePolicy

H, A = 16, 2
SHAPE = {
    "cameras": (), "objects": 3, "height": 1, "width": 1, "state_dim": A, "action_dim": A, "horizon": H, "execute": 6,
    "knot_stride": 3, "width_head": 64, "blocks_head": 2, "flow_steps": 8,
}  # fmt: skip
OBS = ObsBatch(None, torch.zeros(1, A), torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 3))


def net_of(prefix, seed=0):
    torch.manual_seed(seed)
    return FlowPolicy(FlowConfig(prefix=prefix, **SHAPE)).eval()


def scrambled(net):
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    return net


def sample(net, mode, prefix, n=4):
    return NativePolicy(net, Chunking(mode)).sample(OBS, n, prefix, generator=torch.Generator().manual_seed(1))


def test_half_of_the_chunks_are_given_nothing_and_the_rest_every_length_alike():
    delays = drawn_delay(torch.linspace(0, 1, 8001)[:-1], 8)
    share = torch.bincount(delays, minlength=9) / 8000
    torch.testing.assert_close(share, torch.tensor([0.5, *[0.5 / 8] * 8]), atol=2e-3, rtol=0)


def test_without_the_switch_weights_draws_and_losses_are_what_they_were():
    """The numbers of a policy of before there was a switch, and those of one with it that has learned nothing."""
    plain, given = net_of(0), net_of(8)
    own = dict(plain.named_parameters())
    assert {n for n, _ in given.named_parameters()} - own.keys() == {"head.given.weight"}
    assert all(torch.equal(p, own[n]) for n, p in given.named_parameters() if n in own)
    assert plain.head.draw(3, torch.zeros(1)).shape[1] == plain.head.dim + 1
    given.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(sample(plain, "receding", None), sample(given, "receding", None))
    assert torch.equal(sample(plain, "receding", None), sample(given, "prefix", Prefix(torch.zeros(9, A), 0)))


def test_half_of_a_batch_is_as_without_and_the_rest_is_told_what_comes_first():
    """The condition says the steps; the noisy chunk and its error are those of every flow."""
    net = scrambled(net_of(8))
    chunks, state = torch.randn(4, H, A), torch.zeros(4, A)
    z, length = torch.randn(4, net.feature_dim), torch.full((4,), H)
    drawn = net.head.draw(4, z)
    drawn[:, -1] = torch.tensor([0.0, 0.4, 0.999, 0.999])  # none, none, eight, eight steps
    loss = net.flow_loss(z, state, chunks, length, drawn=drawn)
    data, valid = net.encode_actions(chunks, state).flatten(1), torch.ones(4, net.head.dim)
    plain = net.head.loss(z, data, valid, drawn=drawn)
    told = net.given(chunks, state, torch.full((4,), 8))
    given = net.head.loss(z, data, valid, drawn=drawn, given=told)
    torch.testing.assert_close(loss, torch.cat([plain[:2], given[2:]]))
    assert (plain - given).abs().min() > 1e-4
    assert told.fixed.view(4, -1, A)[0, :, 0].tolist() == [True] * 3 + [False] * 3, "knots at rows 0, 3 and 6"
    steps = chunks[:, :8] - net.interpolation[:8] @ net.knot_mean
    torch.testing.assert_close(told.token[:, : 8 * A].view(4, 8, A), steps / (net.interpolation[:8] @ net.knot_std))


def test_a_chunk_cut_short_leaves_a_step_to_predict(monkeypatch):
    """Rows past the end of what ran only repeat the last one: they are never given."""
    net, found = scrambled(net_of(8)), []
    loss = net.head.loss
    monkeypatch.setattr(net.head, "loss", lambda *a: found.append(a[-1]) or loss(*a))
    z, chunks = torch.randn(2, net.feature_dim), torch.randn(2, H, A)
    drawn = net.head.draw(2, z)
    drawn[:, -1] = 0.999
    assert net.flow_loss(z, torch.zeros(2, A), chunks, torch.tensor([1, 5]), drawn=drawn).isfinite().all()
    told = found[0].token[:, -8:]
    assert told.tolist() == [[0.0] * 8, [1.0] * 4 + [0.0] * 4]


def test_chunks_go_on_from_the_steps_they_are_given():
    """Data go straight on, up or down: a flow that is given the beginning goes on so, one that is not cannot know."""
    torch.manual_seed(0)
    net = net_of(8)
    slope = torch.randn(256, 1, A)
    chunks = slope * torch.linspace(0, 1, H)[None, :, None]
    net.knot_std.copy_(net.encode_actions(chunks, torch.zeros(256, A)).std(0).clamp_min(0.05))
    z = net.features(OBS).detach().expand(256, -1)
    optimizer = torch.optim.AdamW(net.head.parameters(), lr=3e-3)
    for _ in range(600):
        loss = net.flow_loss(z, torch.zeros(256, A), chunks, torch.full((256,), H)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for wanted in (torch.tensor([1.0, -0.5]), torch.tensor([-1.0, 1.0])):
        planned = wanted * torch.linspace(0, 1, H)[:, None]
        got, free = (sample(net, mode, Prefix(planned[:7], 5), n=16) for mode in ("prefix", "receding"))
        assert torch.equal(got[..., :5, :], planned[:5].expand(1, 16, -1, -1)), "what will have run is copied"
        assert (got - planned).abs().mean() < 0.15 < (free - planned).abs().mean()


def test_a_policy_that_was_not_trained_for_it_refuses_and_so_do_impossible_shapes():
    with pytest.raises(AloeError, match="5 steps of the chunk will have run, but this policy can be given 0"):
        sample(net_of(0), "prefix", Prefix(torch.zeros(9, A), 5))
    with pytest.raises(ValueError, match="at most half of the horizon of 16"):
        FlowConfig(prefix=9, **SHAPE)
    with pytest.raises(ValueError, match="only a flow"):
        FlowConfig(prefix=8, head="gaussian", **SHAPE)


def test_an_indicator_and_a_prefix_together():
    """RECAP keeps what its warm start can be given: guided samples hold the given steps as well."""
    torch.manual_seed(0)
    net = FlowPolicy(FlowConfig(prefix=8, indicator=True, guidance=2.0, **SHAPE)).eval()
    assert isinstance(net.head, FlowHead)
    scrambled(net)
    planned = torch.randn(9, A)
    knots = net.given(planned[None], torch.zeros(1, A), torch.tensor([7]))
    got = net.sample_knots(net.features(OBS), 2, torch.Generator().manual_seed(0), knots)
    chunks = net.decode_actions(got, OBS.state)
    torch.testing.assert_close(chunks[0, :, [0, 3, 6]], planned[[0, 3, 6]].expand(2, -1, -1))

"""The equations of ALOE, pinned to hand-computed numbers and to exact policy evaluation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.errors import AloeError
from aloe_critic.advantage import advantage_weights, effective_size, fit_beta, scale_advantages
from aloe_critic.hyper import Hyper, load_hyper, make_hyper
from aloe_critic.td import td_target


def test_weights_are_one_at_zero_advantage_and_clip_at_epsilon():
    q, v = torch.tensor([0.0, 4.0, 6.0]), 0.0
    assert advantage_weights(q - v, beta=1.0, epsilon=1.0).tolist() == pytest.approx([1.0, math.e, math.e])


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=30), st.floats(0.01, 10), st.floats(0.1, 5))
def test_weights_stay_between_the_clips(advantage, beta, epsilon):
    w = advantage_weights(torch.tensor(advantage), beta, epsilon)
    assert (w >= math.exp(-epsilon) * 0.999).all() and (w <= math.exp(epsilon) * 1.001).all()


def test_ranked_advantages_keep_their_order_and_forget_their_tails():
    advantage = torch.tensor([-0.1, 50.0, 0.2, -3.0, 0.0])
    scores = scale_advantages(advantage, "rank")
    assert torch.equal(scores.argsort(), advantage.argsort())
    assert scores.abs().max() < 1.3 and scores[4] == pytest.approx(0.0)
    assert scale_advantages(advantage, "std").std() == pytest.approx(1.0)


def test_weights_carry_no_gradient():
    advantage = torch.randn(5, requires_grad=True)
    assert not advantage_weights(advantage, 1.0, 5.0).requires_grad


@pytest.mark.parametrize("wanted", [0.3, 0.5, 0.9])
def test_beta_reaches_the_wanted_effective_size(wanted):
    advantage = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    beta = fit_beta(advantage, Hyper(effective_size=wanted))
    assert effective_size(advantage_weights(advantage, beta, 5.0)) == pytest.approx(wanted, abs=0.03)


def test_target_is_the_pessimistic_bootstrap_and_stops_at_termination():
    next_q = torch.tensor([[[-0.5], [-0.2]], [[-0.7], [-0.1]]])  # 2 heads, 2 transitions, 1 sample
    y = td_target(torch.tensor([-0.3, -0.4]), torch.tensor([0.9, 0.0]), next_q)
    assert y.shape == (1, 2)
    assert y[0].tolist() == pytest.approx([-0.3 + 0.9 * -0.7, -0.4])


def test_target_aggregates_and_sample_picks_are_what_their_names_say():
    next_q = torch.tensor([[[0.0, -1.0]], [[-2.0, -4.0]]])
    reward, discount = torch.zeros(1), torch.ones(1)
    assert td_target(reward, discount, next_q, target="min", pick="mean").tolist() == [[-3.0]]
    assert td_target(reward, discount, next_q, target="mean", pick="max").tolist() == [[-1.0]]
    assert td_target(reward, discount, next_q, target="quantile", pick="mean").tolist() == [[-2.375]]
    assert td_target(reward, discount, next_q, target="own", pick="mean").tolist() == [[-0.5], [-3.0]]


def test_unknown_or_senseless_hyperparameter_is_named():
    with pytest.raises(AloeError, match=r"did you mean 'gamma'"):
        make_hyper({"gama": 0.9})
    with pytest.raises(AloeError, match=r"gamma = 1\.5"):
        make_hyper({"gamma": 1.5})


def test_hyperparameters_are_read_from_yaml_and_a_wrong_file_is_named(tmp_path):
    path = tmp_path / "hyper.yaml"
    path.write_text("gamma: 0.99\ntarget: own\n")
    assert make_hyper(load_hyper(path)).target == "own"
    path.write_text("")
    assert load_hyper(path) == {}
    for text, words in (
        ("gama: 0.9", r"hyper\.yaml: no hyperparameter 'gama'; did you mean 'gamma'"),
        ("- gamma", r"hyper\.yaml: expected lines of `name: value`, got list"),
        ("a: [", r"hyper\.yaml: cannot be read as YAML"),
    ):
        path.write_text(text)
        with pytest.raises(AloeError, match=words) as caught:
            load_hyper(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(AloeError, match="nowhere"):
        load_hyper(tmp_path / "nowhere.yaml")

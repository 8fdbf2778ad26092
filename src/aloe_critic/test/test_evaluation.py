"""Off-policy evaluation: returns and figures by hand, scores of synthetic episodes, the report on known critics."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.evaluation import EpisodeScores, RewardScale, Scorer, evaluate, shadow
from aloe_critic.evaluation.calibration import bias, expected_calibration_error, slope
from aloe_critic.evaluation.estimates import Undefined, auc, estimate, pearson, spearman
from aloe_critic.evaluation.plots import calibration_plot, episode_plot
from aloe_critic.evaluation.realised import realised_returns
from aloe_critic.evaluation.scores import Takeover
from aloe_critic.returns import never_return
from aloe_policy.config import FlowConfig
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.model import FlowPolicy
from aloe_policy.runtime import Models
from synthetic import reach_episode, small_contract

CONTRACT = small_contract()
SCALE = RewardScale(gamma=0.9, max_length=10, failure_cost=5)


def models(tmp_path, seed=0, **config):
    """Return untrained networks under a complete configuration."""
    torch.manual_seed(seed)
    policy = FlowPolicy(FlowConfig.for_contract(CONTRACT, keypoints=4, width_head=32, flow_steps=2))
    critic = ChunkCritic(CriticConfig(feature_dim=policy.feature_dim, action_dim=2, steps=5, width=16, layers=2))
    known = {"reward_scale": [40, 20], "hyper": {"gamma": 0.99}}
    return Models(policy, critic, known | config, f"v{seed}", tmp_path)


def taken_over(seed=0, at=13):
    """A policy drives until step `at`, in the middle of a chunk, then a person."""
    ep = reach_episode(CONTRACT, seed, source=Source.POLICY)
    source, chunk, index = ep.source.copy(), ep.chunk.copy(), ep.chunk_index.copy()
    source[at:], chunk[at:], index[at:] = Source.HUMAN, -1, -1
    return replace(ep, source=source, chunk=chunk, chunk_index=index)


def scored(returns_to_q, seed, outcome=Outcome.SUCCESS, steps=40, takeovers=(), noise=0.0):
    """An episode whose Q is a function of its realised return."""
    ep = reach_episode(CONTRACT, seed, source=Source.POLICY, outcome=outcome, steps=steps)
    start = np.arange(0, steps, 5)
    g = realised_returns(ep, gamma=0.9, max_length=10, failure_cost=5)[start]
    q = returns_to_q(g) + noise * np.random.default_rng(seed).standard_normal(len(g))
    full = np.full(len(start), 5)
    return EpisodeScores(ep, start, full, ep.source[start], q, q, np.abs(q - g), q - 0.1, takeovers)


def test_realised_return_is_the_discounted_sum_by_hand():
    ep = reach_episode(CONTRACT, 1, steps=3)
    options = {"gamma": 0.5, "max_length": 10, "failure_cost": 4}
    np.testing.assert_allclose(realised_returns(ep, **options), [-0.1 - 0.05, -0.1, 0.0], atol=1e-7)
    failed = replace(ep, outcome=Outcome.FAILURE)
    np.testing.assert_allclose(realised_returns(failed, **options), [-0.1 - 0.05 - 0.1, -0.1 - 0.2, -0.4], atol=1e-7)


def test_a_time_out_goes_on_for_ever_fails_or_is_left_out():
    ep = reach_episode(CONTRACT, 1, steps=3, outcome=Outcome.NONE)
    options = {"gamma": 0.5, "max_length": 10, "failure_cost": 4}
    np.testing.assert_allclose(realised_returns(ep, **options), [-0.2] * 3, atol=1e-7)  # 1 / (1 - gamma) = 2 steps
    np.testing.assert_allclose(realised_returns(ep, **options, timeout="failed")[-1], -0.4, atol=1e-7)
    assert np.isnan(realised_returns(ep, **options, timeout="omitted")).all()
    with pytest.raises(AloeError, match="gamma < 1"):
        realised_returns(ep, gamma=1.0, max_length=10, failure_cost=4)
    aborted = replace(ep, end="aborted", outcome=Outcome.ABORTED)
    assert np.isnan(realised_returns(aborted, **options)).all()


def test_a_task_that_is_never_done_is_worth_the_same_at_every_step():
    ep = reach_episode(CONTRACT, 1, steps=400, outcome=Outcome.NONE)
    returns = realised_returns(ep, gamma=0.998, max_length=400, failure_cost=195.088)
    assert set(returns) == {-1.25}  # equal, not nearly: ranks would tell them apart


@pytest.mark.parametrize(("gamma", "length", "cost", "least"), [(0.998, 200, 120, -1.6), (0.998, 400, 200, -1.25)])
def test_a_time_out_is_worth_no_less_than_a_critic_can_say(gamma, length, cost, least):
    ep = reach_episode(CONTRACT, 1, steps=length, outcome=Outcome.NONE)
    returns = realised_returns(ep, gamma=gamma, max_length=length, failure_cost=cost)
    assert least == pytest.approx(never_return(gamma, length, cost))
    np.testing.assert_allclose(returns, least)


def test_returns_before_a_lost_step_are_unknown():
    ep = replace(reach_episode(CONTRACT, 1, steps=6), breaks=(2,))
    known = ~np.isnan(realised_returns(ep, gamma=0.9, max_length=10, failure_cost=4))
    assert known.tolist() == [False] * 3 + [True] * 3


def test_figures_by_hand():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(x, np.exp(x)) == pytest.approx(1) and pearson(x, np.exp(x)) < 0.95
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([3.0, 4.0, 5.0])) == pytest.approx(0.8660254)
    assert auc(np.array([3.0, 1.0, 2.0, 2.0]), np.array([True, False, True, False])) == pytest.approx(0.875)
    with pytest.raises(Undefined, match="one class only"):
        auc(x, np.ones(4, bool))
    g = np.linspace(-1, 0, 100)
    assert expected_calibration_error(g, g) == pytest.approx(0)
    assert expected_calibration_error(g - 0.2, g) == pytest.approx(0.2) and bias(g - 0.2, g) == pytest.approx(-0.2)
    assert slope(2 * g, g) == pytest.approx(0.5)
    # Errors that cancel over all do not cancel over bins.
    assert bias(-1 - g, g) == pytest.approx(0) and expected_calibration_error(-1 - g, g) > 0.4


def test_intervals_are_over_episodes_not_chunks():
    rng = np.random.default_rng(0)
    level = rng.standard_normal(8)  # one draw an episode, 50 chunks each
    episode = np.repeat(np.arange(8), 50)
    values = level[episode]
    mean = lambda v: float(v.mean())  # noqa: E731
    by_episode = estimate(mean, episode, values)
    by_chunk = estimate(mean, np.arange(400), values)
    assert by_episode.episodes == 8 and by_episode.samples == 400
    width = lambda e: e.high - e.low  # noqa: E731
    assert width(by_episode) > 4 * width(by_chunk)
    assert by_episode.low <= by_episode.value <= by_episode.high
    assert estimate(mean, episode, values) == by_episode
    assert estimate(mean, np.zeros(3), np.ones(3)).low is None


def test_report_knows_a_good_critic_from_a_bad_one_and_is_json():
    many = lambda f, noise=0.0: [  # noqa: E731
        scored(f, i, Outcome.SUCCESS if i % 3 else Outcome.NONE, 40 + 5 * i, noise=noise) for i in range(12)
    ]
    good = evaluate(many(lambda g: g), SCALE, critic_version="v7", resamples=50)
    assert good["autonomous"]["spearman"]["value"] > 0.99 and good["autonomous"]["ece"]["value"] < 1e-6
    assert good["autonomous"]["auc_25"]["value"] == 1.0
    bad = evaluate(many(lambda g: -1 - g), SCALE, resamples=50)
    assert bad["autonomous"]["spearman"]["value"] < -0.9 and bad["autonomous"]["auc_75"]["value"] == 0.0
    noisy = evaluate(many(lambda g: g, noise=0.5), SCALE, resamples=50)
    assert 0 < noisy["all"]["spearman"]["value"] < 0.9 < good["all"]["spearman"]["value"]
    assert noisy["all"]["spread_error"]["value"] > 0.9  # the spread of these critics is their error
    assert good["episodes"] == 12 and good["outcomes"] == {"none": 4, "success": 8} and good["critic_version"] == "v7"
    json.dumps(good, allow_nan=False)


def test_figures_that_cannot_be_computed_are_null_with_a_reason():
    report = evaluate([scored(lambda g: g, i) for i in range(3)], SCALE, resamples=20)
    assert report["all"]["auc_50"] | {"value": None} == report["all"]["auc_50"]
    assert "one class only" in report["all"]["auc_50"]["reason"]
    assert (report["all"]["ranking"]["value"], report["all"]["ranking"]["reason"]) == (None, "no takeover")
    empty = evaluate([], SCALE)
    assert all(row["value"] is None and row["reason"] for row in empty["all"].values())


def test_ranking_counts_takeovers_at_which_the_persons_chunk_is_preferred():
    takes = [Takeover(10, q, -0.5, -0.45, True) for q in (-0.4, -0.6, -0.3, -0.48)]
    human = [scored(lambda g: g, i, takeovers=(t,)) for i, t in enumerate(takes)]
    report = evaluate(human, SCALE, resamples=20)
    assert report["all"]["ranking"]["value"] == 0.75 and report["all"]["ranking"]["recorded"] == 4
    assert report["all"]["ranking_fresh"]["value"] == 0.5


def test_scores_are_those_of_the_networks_and_repeatable(tmp_path):
    scorer = Scorer(models(tmp_path), CONTRACT, samples=4)
    ep = reach_episode(CONTRACT, 3, source=Source.POLICY, steps=38)
    scores = scorer.score(ep)
    assert scores.start.tolist() == list(range(0, 38, 5)) and scores.length.tolist() == [5] * 7 + [3]
    np.testing.assert_array_equal(scorer.score(ep).v, scores.v)
    # The last chunk by hand: three steps ran, the rest repeats the last.
    from aloe_critic.evaluation.scores import observe

    with torch.inference_mode():
        z, state = observe(scorer.policy, ep, np.array([35]), CONTRACT, torch.device("cpu"))
        rows = torch.from_numpy(ep.executed[[35, 36, 37, 37, 37]])[None, None]
        tokens = scorer.critic.encode(rows, state * scorer.policy.relative, torch.tensor([3]))
        q = scorer.critic(z, tokens)[:, 0, 0]
    assert scores.q_pess[-1] == pytest.approx(float(q.min()), abs=1e-5)
    assert scores.q_mean[-1] == pytest.approx(float(q.mean()), abs=1e-5)
    assert (scores.q_pess <= scores.q_mean).all() and (scores.q_std > 0).all()
    np.testing.assert_allclose(scores.advantage, scores.q_pess - scores.v)


def test_a_takeover_compares_with_the_rest_of_the_recorded_chunk(tmp_path):
    scorer = Scorer(models(tmp_path), CONTRACT)
    ep = taken_over(at=13)  # row 3 of the third chunk
    sent = np.random.default_rng(0).uniform(-1, 1, (10, 2)).astype(np.float32)
    (recorded,) = scorer.score(ep, {"c2": sent}).takeovers
    assert recorded.step == 13 and recorded.recorded and not scorer.score(ep).autonomous
    # What the critic says of those rows as if they had run instead.
    ran = ep.executed.copy()
    ran[13:18] = sent[3:8]
    instead = scorer.score(replace(ep, executed=ran))
    assert recorded.q_policy == pytest.approx(instead.q_pess[instead.start.tolist().index(13)], abs=1e-5)
    (unknown,) = scorer.score(ep).takeovers
    assert not unknown.recorded and unknown.q_policy == unknown.v and unknown.q_human == recorded.q_human


def test_a_checkpoint_that_cannot_score_says_why(tmp_path):
    whole = models(tmp_path)
    with pytest.raises(AloeError, match="v0: this checkpoint has no critic"):
        Scorer(replace(whole, critic=None), CONTRACT)
    with pytest.raises(AloeError, match="reward_scale = None"):
        Scorer(models(tmp_path, reward_scale=None), CONTRACT)
    with pytest.raises(AloeError, match="samples = 0"):
        Scorer(whole, CONTRACT, samples=0)
    with pytest.raises(AloeError, match="contract_hash"):
        Scorer(whole, CONTRACT).score(replace(reach_episode(CONTRACT, 1), contract_hash="other"))


def test_shadow_finds_no_difference_of_a_policy_with_itself_and_some_with_another(tmp_path):
    episodes = [reach_episode(CONTRACT, i, source=Source.POLICY) for i in range(3)]
    one = models(tmp_path)
    same = shadow(one, models(tmp_path), episodes, CONTRACT, samples=2, resamples=20)
    assert same["deviation_largest"] == 0 and same["value_change"]["value"] == 0 and same["observations"] == 24
    other = shadow(one, replace(models(tmp_path, seed=1), critic=None), episodes, CONTRACT, samples=2, resamples=20)
    assert 0 < other["deviation"] <= other["deviation_largest"] <= 1 and other["value_change"]["value"] != 0
    wild = models(tmp_path)
    wild.policy.knot_std.fill_(50.0)
    assert shadow(wild, one, episodes, CONTRACT, samples=2, resamples=20)["outside"] > 0.5 >= same["outside"]
    with pytest.raises(AloeError, match="no held-out episode"):
        shadow(one, one, [], CONTRACT)


def test_plots_are_drawn_also_without_anything_to_compare(tmp_path):
    scores = Scorer(models(tmp_path), CONTRACT).score(taken_over())
    episode_plot(scores, SCALE, tmp_path / "episode.png", "continued", "an episode")
    calibration_plot([scores], SCALE, tmp_path / "one.png", "omitted")
    calibration_plot([], SCALE, tmp_path / "none.png", "continued")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("episode.png", "one.png", "none.png"))

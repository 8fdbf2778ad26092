"""The gate: a refusal names figure, value and threshold; too little data is neither good nor bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from aloe_core.errors import AloeError
from aloe_critic.evaluation import Thresholds, evaluate, gate, judge, load_thresholds
from aloe_critic.evaluation.scores import RewardScale

CONFIG = Path(__file__).parents[3] / "config/gate.yaml"


def figure(value, samples=500, episodes=20):
    return {"value": value, "low": value, "high": value, "samples": samples, "episodes": episodes, "reason": ""}


def report(**changes):
    """A good report, but for `changes` in the figures of autonomous episodes, the ranking and the shadow."""
    good = {"spearman": figure(0.8), "auc_50": figure(0.9), "ece": figure(0.1), "ranking": figure(0.9, 12, 12)}
    shadow = {"episodes": 20, "value_change": figure(0.01), "deviation": 0.1, "outside": 0.0}
    figures = good | {k: v for k, v in changes.items() if k in good}
    shadow |= {k: v for k, v in changes.items() if k in shadow}
    return {"all": good | {"ranking": figures["ranking"]}, "autonomous": figures, "shadow": shadow}


def test_the_shipped_thresholds_are_the_defaults_and_pass_a_good_update():
    thresholds = load_thresholds(CONFIG)
    assert thresholds == Thresholds()
    assert set(Thresholds.model_fields) == {
        line.split(":")[0] for line in CONFIG.read_text().splitlines() if line and not line.startswith("#")
    }
    assert all("#" in line for line in CONFIG.read_text().splitlines() if line)
    assert gate(report(), thresholds) == [] and judge(report(), thresholds).abstentions == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spearman": figure(0.31)}, "spearman = 0.310: expected at least 0.5 (min_spearman)"),
        ({"auc_50": figure(0.5)}, "auc_50 = 0.500: expected at least 0.6"),
        ({"ece": figure(0.7)}, "ece = 0.700: expected at most 0.5 (max_ece)"),
        ({"ranking": figure(0.2, 12, 12)}, "ranking = 0.200: expected at least 0.5"),
        ({"value_change": figure(-0.2)}, "shadow.value_change (upper end) = -0.200: expected at least -0.05"),
        ({"deviation": 0.9}, "shadow.deviation = 0.900: expected at most 0.4 (max_deviation)"),
        ({"outside": 0.2}, "shadow.outside = 0.200: expected at most 0.05"),
    ],
)
def test_a_refusal_names_figure_value_and_threshold(change, said):
    (refusal,) = gate(report(**change), Thresholds())
    assert refusal.startswith("Update refused: ") and said in refusal


def test_value_may_fall_within_what_noise_explains():
    change = {"value": -0.1, "low": -0.3, "high": 0.02, "samples": 500, "episodes": 20, "reason": ""}
    assert gate(report(value_change=change), Thresholds()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"spearman": figure(0.1, samples=99)},
        {"spearman": figure(0.1, episodes=9)},
        {"ranking": figure(0.1, samples=9)},
        {"auc_50": figure(0.1) | {"value": None, "reason": "one class only"}},
        {"episodes": 3, "value_change": figure(-9.0)},
    ],
)
def test_too_little_data_is_an_abstention_that_publishes_or_refuses_as_configured(change):
    (abstention,) = judge(report(**change), Thresholds()).abstentions
    assert "expected at least" in abstention or "one class only" in abstention
    assert gate(report(**change), Thresholds()) == []
    (refusal,) = gate(report(**change), Thresholds(abstain="refuse"))
    assert "not judged" in refusal and abstention in refusal


def test_a_threshold_of_null_asks_for_nothing_and_scope_chooses_the_episodes():
    bad = report(spearman=figure(0.1))
    assert gate(bad, Thresholds(min_spearman=None)) == []
    assert gate(bad, Thresholds(scope="all")) == []  # where the figure is good


def test_the_first_update_has_nothing_to_be_compared_with():
    first = report()
    del first["shadow"]
    assert gate(first, Thresholds()) == [] and "no previous policy" in judge(first, Thresholds()).abstentions[0]


def test_it_reads_what_evaluate_writes():
    nothing = evaluate([], RewardScale(0.99, 40, 20), resamples=5)
    verdict = judge(nothing, Thresholds())
    assert not verdict.refusals and len(verdict.abstentions) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min_spearmen: 0.5", "min_spearmen"),
        ("min_spearman: high", "min_spearman = 'high'"),
        ("min_episodes: 0", "min_episodes = 0"),
        ("- 1", "got list"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_bad_thresholds_are_one_sentence(tmp_path, text, said):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(AloeError, match=r"gate\.yaml") as error:
        load_thresholds(path)
    assert said in str(error.value)

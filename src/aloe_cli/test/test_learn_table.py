"""What the learning benchmark derives from its runs: time to RECAP's success, names of variants, figures of critics."""

from __future__ import annotations

import json

import pytest

from aloe_cli.bench.learn import task_levels
from aloe_cli.bench.learning import plan, table
from aloe_cli.bench.learning.yardstick import times_to_yardstick
from aloe_core.errors import AloeError

FACTS = {"hardware": "one core", "revision": "abc", "budget_text": "Little."}


def row(method, *successes, seconds=100.0, seed=0, **more):
    curve = [
        {
            "interaction_s": seconds * k,
            "successes": k,
            "success": success,
            "episodes": 50,
            "successes_per_hour": 100.0,
            "intervention_rate": 0.1 if k else None,
        }
        for k, success in enumerate(successes)
    ]
    facts = {"task": "sorting", "level": "easy", "human": "clumsy", "method": method, "seed": seed, "curve": curve}
    return facts | {"final_success": successes[-1], "successes_per_hour": 100.0, "revision": "abc"} | more


def test_half_the_interaction_is_a_share_of_recaps_own():
    """RECAP ends at 0.6 after 400 s; who is there after a round of 100 s needs a quarter, whatever comes later."""
    rows = [
        row("recap", 0.4, 0.5, 0.6, seconds=200.0),
        row("aloe", 0.4, 0.6, 0.5),
        row("hg_dagger", 0.4, 0.5, 0.59),
        row("qc", 0.4, 0.5, 0.7),
    ]
    found = {one["method"]: (one["interaction_s"], one["share"]) for one in times_to_yardstick(rows)}
    assert found == {"recap": (400.0, 1.0), "aloe": (100.0, 0.25), "hg_dagger": (None, None), "qc": (200.0, 0.5)}
    assert {one["goal"] for one in times_to_yardstick(rows)} == {0.6}
    assert times_to_yardstick(rows[1:]) == [], "without RECAP there is nothing to reach"


def test_means_over_seeds_are_what_reaches_the_yardstick():
    rows = [
        row("recap", 0.4, 0.6),
        row("recap", 0.4, 0.8, seed=1),
        row("aloe", 0.4, 0.9),
        row("aloe", 0.4, 0.4, seed=1),
    ]
    found = {one["method"]: one["share"] for one in times_to_yardstick(rows)}
    assert found == {"recap": 1.0, "aloe": None}, "0.65 on average is not 0.7"


def test_a_method_is_held_against_recap_on_the_seeds_that_both_have():
    """Seed 1 is the harder one: where RECAP did not run it, it says nothing of who needs less."""
    rows = [
        row("recap", 0.4, 0.5, 0.6),
        row("aloe", 0.4, 0.6, 0.7),
        row("aloe", 0.1, 0.2, 0.5, seed=1),
        row("qc", 0.4, 0.9, 0.9, seed=1),
    ]
    found = {one["method"]: (one["seeds"], one["goal"], one["share"]) for one in times_to_yardstick(rows)}
    assert found == {"recap": ([0], 0.6, 1.0), "aloe": ([0], 0.6, 0.5)}


def test_what_is_named_twice_is_refused():
    def asked(methods, humans):
        return plan.rows(["sorting"], {"sorting": "easy"}, methods, humans, 1, ["aloe", "recap"])

    assert len(asked(["aloe", "recap"], ["clumsy"])) == 2
    with pytest.raises(AloeError, match=r"^method = 'aloe': named twice\.$"):
        asked(["aloe", "recap", "aloe"], ["clumsy"])
    with pytest.raises(AloeError, match=r"^human = 'clumsy': named twice\.$"):
        asked(["aloe"], ["clumsy", "clumsy"])
    assert task_levels("laundry_folding/full,phone_packing") == {"laundry_folding": "full", "phone_packing": "easy"}
    with pytest.raises(AloeError, match=r"^task = 'phone_packing': named twice"):
        task_levels("phone_packing/easy,phone_packing/full")


def test_table_says_what_a_variant_is_and_how_right_its_critic_was(tmp_path):
    critic = {"spearman": 0.51, "ece": 0.2, "bias": None}
    rows = [
        row("recap", 0.4, 0.5, critic=None, variants=[]),
        row("aloe_select+n32", 0.4, 0.6, critic=critic, variants=["n32"]),
        row("aloe", 0.4, 0.3),  # of before there were variants
    ]
    table.write(rows, FACTS, tmp_path / "learn")
    text = (tmp_path / "learn.md").read_text()
    lines = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")]
        for line in text.splitlines()
        if "|" in line
    }
    assert lines["aloe_select+n32"][-4:-1] == ["100", "100%", "0.51, 0.20, -"]
    assert lines["aloe"][-4:-1] == ["not reached", "not reached", ""]
    assert {len(cells) for cells in lines.values()} == {10}
    assert "* `+n32`: 32 chunks at run time" in text
    result = json.loads((tmp_path / "learn.json").read_text())
    assert {one["method"]: one["share"] for one in result["yardstick"]} == {
        "recap": 1.0,
        "aloe_select+n32": 1.0,
        "aloe": None,
    }


def test_rows_keep_method_and_variants_apart():
    (one,) = plan.rows(["sorting"], {"sorting": "easy"}, ["aloe+priors+lcb"], ["clumsy"], 1, ["aloe"])
    assert (one.learner, one.variants, one.method) == ("aloe", ["priors", "lcb"], "aloe+priors+lcb")
    with pytest.raises(AloeError, match="method = 'magic': expected one of aloe"):
        plan.rows(["sorting"], {"sorting": "easy"}, ["magic"], ["clumsy"], 1, ["aloe"])

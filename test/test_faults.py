"""Every fault once, on real processes: the robot holds in time, nothing saved is lost, somebody is told."""

import json
from pathlib import Path

import pytest

pytest.importorskip("mujoco")

from aloe_cli.bench.faults_bags import Damage
from aloe_cli.bench.faults_cases import Fault, faults
from aloe_cli.bench.faults_table import earlier, merged, page, summary
from aloe_cli.bench.faults_trial import Seen, live
from aloe_core.contract import load_contract
from aloe_core.errors import AloeError

CONTRACT = Path(__file__).parents[1] / "config/robots/aloha_sim.yaml"
LIVES = faults(load_contract(CONTRACT))
SLACK = 1.0  # s that a busy machine may add; `./aloe bench faults` measures with less


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("life", LIVES, ids=lambda life: life[-1].name)
def test_the_robot_holds_nothing_is_lost_and_the_operator_is_told(life, tmp_path):
    seen = live(tmp_path, CONTRACT, life, seed=0)
    assert [one.fault.name for one in seen] == [fault.name for fault in life]
    assert {one.fault.name: one.problems(SLACK) for one in seen if one.problems(SLACK)} == {}
    if all(one.skipped for one in seen):
        pytest.skip(seen[0].skipped)
    assert seen[-1].torn == life[-1].tears or life[-1].on_small_disk


def test_every_node_of_a_robot_is_killed_and_stopped():
    names = {fault.name for life in LIVES for fault in life}
    for node in ("camera", "policy", "arbiter", "takeover"):
        assert {f"{node}_node killed", f"{node}_node stopped 2 s"} <= names
    for node in ("episode_recorder", "episode_manager"):
        assert {f"{node} killed", f"{node} stopped 2 s"} <= names
    assert all(not fault.ends for life in LIVES for fault in life[:-1]), "nothing can follow the end of the graph"


FAULT = Fault("a node killed", lambda *_: None, "died", limit=0.5)


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"held": 0.7}, "held after 0.700 s"),
        ({"said": ""}, "nobody was told"),
        ({"jumps": 1}, "1 steps over the slew limit"),
        ({"stalled": "not within 100 s: the bag is saved"}, "stalled: not within 100 s: the bag is saved"),
        ({"saved": 3, "lost": 1}, "1 of 3 finished episodes are lost"),
        ({"torn": 1}, "0 of 1 torn episodes were recovered"),
        ({"torn": 1, "recovered": 1, "lost_seconds": 9.0}, "9.00 s of the torn episode"),
    ],
)
def test_a_broken_promise_is_named(broken, problem):
    good = {"held": 0.5, "said": "[ERROR] [a_node-1]: process has died [pid 1, exit code -9, cmd 'a b']."}
    assert Seen(FAULT, **good).problems(0.1) == []
    (found,) = Seen(FAULT, **(good | broken)).problems(0.1)
    assert problem in found


def test_the_page_shows_the_sentence_without_its_command_line_and_what_was_skipped():
    seen = [
        Seen(FAULT, held=0.2, said="[ERROR] [a_node-1]: process has died [pid 1, exit code -9, cmd 'a b']."),
        Seen(FAULT, held=0.4, said="[ERROR] [a_node-1]: process has died [pid 2, exit code -9, cmd 'a b']."),
        Seen(Fault("a link cut", lambda *_: None, ""), skipped="No link can be cut here."),
    ]
    rows = summary(seen, 0.1)
    assert (rows[0]["trials"], rows[0]["held_s_median"], rows[0]["held_s_max"], rows[0]["told"]) == (2, 0.3, 0.4, 2)
    text = page(rows, Damage(), "a machine", 0.1)
    assert "a_node: process has died [pid 1, exit code -9]." in text and "cmd" not in text
    assert "No promise was broken." in text
    assert "* a node killed: nobody was told" in page(summary([Seen(FAULT)], 0.1), Damage(), "a machine", 0.1)
    assert "| a link cut | 0 | | | | | | | skipped: No link can be cut here. |" in text


def test_a_run_of_some_faults_keeps_the_figures_of_the_others(tmp_path):
    assert earlier(tmp_path, 0.1, "a machine") == ([], Damage())
    old = summary([Seen(FAULT), Seen(Fault("a cut", FAULT.strike, ""))], 0.1)
    report = {"slack_s": 0.1, "faults": old, "bags": vars(Damage(flips=3)), "hardware": "a machine"}
    (tmp_path / "faults.json").write_text(json.dumps(report))
    before, bags = earlier(tmp_path, 0.1, "a machine")
    assert bags == Damage(flips=3)
    rows = merged(before, summary([Seen(FAULT, held=0.3)], 0.1), ["a cut", "another", "a node killed"])
    assert [(row["fault"], row["held_s_max"]) for row in rows] == [("a cut", 0.0), ("a node killed", 0.3)]
    with pytest.raises(AloeError, match=r"measured with slack 0\.1 s on a machine; choose another --out"):
        earlier(tmp_path, 0.1, "another machine")
    (tmp_path / "faults.json").write_text("[]")
    with pytest.raises(AloeError, match="not a report of bench faults"):
        earlier(tmp_path, 0.1, "a machine")

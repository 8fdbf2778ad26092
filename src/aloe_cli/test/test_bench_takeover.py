"""`./aloe bench takeover`: a few takeovers through real nodes, a few timelines, and how broken rules are told."""

import pytest

from aloe_cli.bench.takeover import report
from aloe_cli.bench.takeover_rig import Drive
from aloe_core.timelines import Tally
from cli_tools import fails_in_one_sentence, result


@pytest.mark.slow
def test_takeovers_through_the_real_nodes_and_random_timelines_break_no_rule(run):
    row = result(run("bench", "takeover", "--presses", 3, "--timelines", 30, "--ticks", 50, "--json"))
    assert row["violations"] == 0 and row["broken"] == {} and row["seeds"] == []
    assert row["timelines"] == 30 and row["ticks"] > 1000
    assert 0 < row["jump_max_rad"] <= 0.06 + 1e-6  # 3 rad/s at 50 Hz
    assert set(row["input_to_last_policy_command_ms"]) == {"p50", "p99", "max"}


def test_a_broken_rule_is_named_with_its_seeds_and_fails():
    tally = Tally(timelines=2, ticks=9, seeds=[4])
    tally.violations["a command between ticks"] += 3
    row = report(Drive(latencies=[0.001, 0.003], ticks=5, jump=0.02, violations=1), tally)
    assert (row["violations"], row["ticks"], row["exit_code"]) == (4, 14, 1)
    assert row["broken"] == {"a command between ticks": 3} and row["seeds"] == [4]
    assert row["input_to_last_policy_command_ms"]["p50"] == 2.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--presses", -1], "presses = -1"),
        (["--ticks", 0], "ticks = 0"),
        (["--presses", 0, "--timelines", 0], "something to measure"),
        (["--contract", "/nope.yaml"], "/nope.yaml"),
    ],
)
def test_bad_input_is_one_sentence(run, words, said):
    done = run("bench", "takeover", *words)
    assert fails_in_one_sentence(done, 2), done.stderr
    assert said in done.stderr

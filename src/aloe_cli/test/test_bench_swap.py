"""`./aloe bench swap`: a real swap through the real nodes, and how one is judged."""

import pytest

from aloe_cli.bench.swap import report
from aloe_cli.bench.swap_rig import Swaps
from cli_tools import fails_in_one_sentence, result

DT = 0.02


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("transport", [[], ["--http"]])
def test_a_running_policy_is_swapped_and_no_chunk_is_of_two_versions(run, transport):
    row = result(
        run("bench", "swap", "--swaps", 2, "--cameras", 1, "--pixels", 64, "--candidates", 2, *transport, "--json")
    )
    swap = row["swap"]
    assert swap["versions_in_one_chunk"] == 1 and swap["steps_of_an_older_version"] == 0
    assert swap["chunks"] > 4 and 0 < swap["seconds"]["p50"] <= swap["seconds"]["max"]
    assert row["swaps"] == 2 and row["http"] == bool(transport) and row["hardware"]


def steps(*runs):
    """Steps DT apart from 10.0 s on: (count, chunk, version), no chunk being a hold."""
    flat = [(chunk, version) for count, chunk, version in runs for _ in range(count)]
    return [(10.0 + i * DT, bool(chunk), chunk, version) for i, (chunk, version) in enumerate(flat)]


def test_holds_and_ticks_that_did_not_happen_are_missed_only_where_a_swap_was():
    seen = Swaps({"v2": 10.4}, {"v2": 10.79}, steps((25, "a", "v1"), (3, "", ""), (20, "b", "v2")))
    row = report(seen, DT)
    assert (row["missed_ticks"], row["missed_ticks_between"]) == (3, 0)
    assert row["missed"] == {"held": 3, "absent": 0}
    assert row["seconds"] == {"p50": 0.39, "max": 0.39}
    del seen.steps[22:25], seen.steps[2:5]
    row = report(seen, DT)
    assert row["missed"] == {"held": 3, "absent": 1} and row["missed_between"] == {"held": 0, "absent": 2}
    assert (row["missed_ticks"], row["missed_ticks_between"]) == (4, 2), "a window may begin and end within a period"


def test_a_mixed_chunk_and_one_that_comes_back_are_seen():
    seen = Swaps({"v2": 10.4}, {"v2": 10.8}, steps((25, "a", "v1"), (5, "b", "v1"), (5, "b", "v2"), (4, "a", "v1")))
    row = report(seen, DT)
    assert (row["versions_in_one_chunk"], row["steps_of_an_older_version"]) == (2, 4)


def test_bad_input_is_one_sentence(run):
    done = run("bench", "swap", "--swaps", 0)
    assert fails_in_one_sentence(done, 2), done.stderr
    assert "swaps = 0: expected at least 1" in done.stderr

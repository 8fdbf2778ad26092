"""`./aloe bench infer`: a few seconds through the real nodes, and how a run is counted."""

import pytest

from aloe_cli.bench.infer import report
from aloe_cli.bench.infer_rig import Seen
from aloe_cli.errors import AloeFailure
from cli_tools import fails_in_one_sentence, result


@pytest.mark.slow
def test_chunks_drive_a_robot_through_the_real_nodes(run):
    row = result(run("bench", "infer", "--minutes", 0.05, "--cameras", 1, "--pixels", 64, "--candidates", 2, "--json"))
    assert row["chunks"] > 0 and row["ticks"] > 0 and row["missed_ticks"] >= 0
    for key in ("overhead_ms", "chunk_ms", "to_command_ms"):
        assert 0 < row[key]["p50"] <= row[key]["p99"]
    assert row["to_command_ms"]["p50"] > row["chunk_ms"]["p50"]
    assert row["eight_over_one"] > 0.5 and row["candidates"] == 2 and row["hardware"]


def test_ticks_that_held_and_ticks_that_did_not_happen_are_missed():
    seen = Seen([0.002, 0.004], [0.03], [0.01], ticks=40, held=3, began=10.0, ended=11.0)
    row = report(seen, 0.02)
    assert (row["missed_ticks"], row["ticks"], row["chunks"]) == (3 + 9, 40, 1)
    assert row["overhead_ms"]["p50"] == 3.0 and row["chunk_ms"]["p99"] == 10.0


def test_a_run_without_chunks_is_a_failure():
    with pytest.raises(AloeFailure, match="No chunk drove the robot"):
        report(Seen(ticks=50, began=0.0, ended=1.0), 0.02)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", 0], "minutes = 0: expected more than 0"),
        (["--candidates", 0], "candidates = 0: expected 1 to 256"),
        (["--contract", "/nope.yaml"], "/nope.yaml"),
    ],
)
def test_bad_input_is_one_sentence(run, words, said):
    done = run("bench", "infer", *words)
    assert fails_in_one_sentence(done, 2), done.stderr
    assert said in done.stderr

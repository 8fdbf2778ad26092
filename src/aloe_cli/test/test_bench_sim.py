"""`./aloe bench`: which benchmarks there are, and what `sim` measures."""

import os

import pytest

from aloe_cli.bench import BENCHMARKS
from aloe_cli.bench.hardware import one_core
from cli_tools import fails_in_one_sentence, result


def test_benchmarks_are_listed_and_only_the_one_that_runs_is_imported(run, monkeypatch):
    done = run("bench", "--help")
    assert all(name in done.stdout for name in BENCHMARKS)
    assert run("bench", "knitting").returncode == 2


def test_sim_measures_each_task_on_one_core(run):
    before = os.sched_getaffinity(0)
    done = run("bench", "sim", "--tasks", "sorting", "--seconds", 0.2, "--repeats", 1, "--json")
    assert os.sched_getaffinity(0) == before
    rows = result(done)
    assert set(rows) == {"sorting"}
    row = rows["sorting"]
    for key in ("steps_per_s", "realtime_factor", "render_ms", "render_640x480_ms"):
        assert row[key] > 0
    assert row["realtime_factor"] < row["realtime_factor_physics"] == pytest.approx(row["steps_per_s"] / 50, rel=0.01)
    assert "cores" in row["hardware"]


def test_one_core_is_given_back():
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError), one_core():
        assert len(os.sched_getaffinity(0)) == 1
        raise KeyError
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "juggling"], "Unknown task 'juggling'"),
        (["--tasks", "sorting/impossible"], "unknown level 'impossible'"),
        (["--seconds", 0], "seconds = 0"),
        (["--repeats", -1], "repeats = -1"),
        (["--contract", "/nope.yaml"], "/nope.yaml"),
    ],
)
def test_bad_input_is_one_sentence(run, words, said):
    done = run("bench", "sim", *words)
    assert fails_in_one_sentence(done, 2), done.stderr
    assert said in done.stderr

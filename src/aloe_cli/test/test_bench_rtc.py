"""`./aloe bench rtc`: a small run from clone to table, and how ways of splicing are held against each other."""

import json
from dataclasses import replace

import numpy as np
import pytest

from aloe_cli import paths
from aloe_cli.bench.rtc import Way, compared
from aloe_core.contract import load_contract
from aloe_core.episode.data import Outcome
from aloe_sim.rollout import run_episode
from aloe_sim.station import Station
from cli_tools import fails_in_one_sentence, result

CONTRACT = paths.contract(None)


@pytest.mark.slow
def test_a_clone_is_run_without_a_delay_and_with_it_in_both_ways(run, tmp_path):
    out = tmp_path / "rtc"
    asked = ("--tasks", "sorting/easy", "--delay", 15, "--episodes", 2, "--demonstrations", 2, "--steps", 20)
    row = result(run("bench", "rtc", *asked, "--work", tmp_path / "work", "--out", out, "--json"))
    assert [(r["delay"], r["chunking"]) for r in row["rows"]] == [(0, "receding"), (15, "receding"), (15, "rtc")]
    written = json.loads(out.with_suffix(".json").read_text())
    assert written["rows"] == row["rows"] and written["horizon"] == 50 and written["revision"]
    assert out.with_suffix(".png").stat().st_size > 5_000
    table = out.with_suffix(".md").read_text()
    assert all(f"| {chunking} |" in table for chunking in ("receding", "rtc")) and "300 ms" in table
    jumps = {(r["delay"], r["chunking"]): r["border_step_max_rad"] for r in row["rows"]}
    assert jumps[15, "rtc"] < jumps[15, "receding"], "what rtc is for"


@pytest.fixture(scope="module")
def episode():
    """A short episode; what it did does not matter here."""
    contract = load_contract(CONTRACT)
    station = Station(contract, "sorting", "easy", render=False)
    return run_episode(station, 1, None, "demonstrate", time_limit=0.5, record=False)


def test_success_is_paired_and_time_counts_where_all_succeeded(episode):
    """Four starts: without a delay all but the last, with it all but the first; so two are done by both."""

    def end(success, steps):
        short = {
            name: getattr(episode, name)[:steps]
            for name in ("stamps", "state", "requested", "executed", "source", "chunk", "chunk_index")
        }
        return replace(episode, outcome=Outcome.SUCCESS if success else Outcome.FAILURE, **short)

    plain = [end(True, 9), end(True, 10), end(True, 10), end(False, 20)]
    late = [end(False, 20), end(True, 12), end(True, 13), end(True, 5)]
    first, second = compared([Way(0, "receding"), Way(5, "rtc")], [plain, late], load_contract(CONTRACT))
    assert (first["success"], second["success"], second["success_change"]) == (0.75, 0.75, 0)
    spread = 1.96 * np.std([-1, 0, 0, 1], ddof=1) / 2
    assert second["success_change_95"] == pytest.approx([-spread, spread], abs=1e-4)
    assert second["slower"] == pytest.approx(0.25) and first["slower"] == 0
    assert second["seconds"] == pytest.approx(12.5 * episode.dt)


def test_bad_input_is_one_sentence(run, tmp_path):
    for words, sentence in (
        (("--delay", 30), "delay = 30 control steps: expected 0 to 25"),
        (("--horizon", 5), "horizon = 5: expected at least the contract's execute"),
        (("--tasks", "juggling"), "juggling"),
    ):
        done = run("bench", "rtc", *words, "--work", tmp_path / "work", "--out", tmp_path / "rtc")
        assert fails_in_one_sentence(done, 2), done.stderr
        assert sentence in done.stderr

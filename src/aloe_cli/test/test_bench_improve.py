"""`./aloe bench improve`: one step of each method on a finished run's data, as small as it goes."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from aloe_cli.bench.improve_table import markdown, paired
from aloe_cli.bench.learning import plan, row
from aloe_cli.bench.learning.row import load
from cli_tools import aloe, fails_in_one_sentence, result
from test_bench_learn import CONTRACT, learn

OTHER = str(Path(CONTRACT).parent / "aloha_sim.yaml")
KEY = "sorting-easy_average_hg_dagger_s0"


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The work folder of a benchmark with one run of two rounds."""
    folder = tmp_path_factory.mktemp("learned")
    done = aloe(*learn(folder, "--methods", "hg_dagger", "--observe", "objects", "--rounds", "2", "--budget", "6"))
    assert done.returncode == 0, done.stderr
    return folder / "work"


def improve(learned, folder, *words):
    """Words of the command."""
    where = ("--learned", learned, "--work", folder / "work", "--out", folder / "table", "--contract", CONTRACT)
    return ["bench", "improve", *where, "--episodes", "2", "--processes", "1", *words]


@pytest.mark.slow
def test_methods_step_from_the_same_policy_and_choosing_is_measured_apart(run, learned, tmp_path):
    words = ("--runs", KEY, "--methods", "hg_dagger,aloe_select+n4,recap", "--json")
    done = aloe(*improve(learned, tmp_path, *words))
    rows = result(done)["rows"]
    assert f"{KEY}: 0, " in done.stderr and "runs: 1/1, " in done.stderr, "an hour's work says how far it is"
    assert [row["method"] for row in rows] == ["hg_dagger", "aloe_select+n4", "recap"]
    assert [list(row["good"]) for row in rows] == [["1"], ["1", "4"], ["1"]]
    assert {row["before"] for row in rows} == {"v0002-hg_dagger"}
    assert all(len(good) == 2 for row in rows for good in row["good"].values())
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "work/rows").iterdir()}
    assert len(kept) == 3 and result(aloe(*improve(learned, tmp_path, *words)))["rows"] == rows
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "work/rows").iterdir()} == kept, "not run again"
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == rows

    asked = result(
        aloe(*improve(learned, tmp_path, "--runs", KEY, "--methods", "aloe_select+n4", "--chunks", "4,2", "--json"))
    )
    (more,) = asked["rows"]
    assert list(more["good"]) == list(more["critic"]) == ["1", "2", "4"], "the policy is kept, and measured again"
    assert more["good"]["4"] == rows[1]["good"]["4"] and set(more["critic"]["2"]) == {"spearman", "ece", "bias"}
    assert rows[0]["critic"] == {"1": None}
    assert all(row["revision"] and row["notes"] == [] for row in rows)
    checkpoint = tmp_path / "work/checkpoints" / f"{KEY}_aloe_select+n4" / more["after"]
    assert [load(str(checkpoint), str(CONTRACT), count).candidates for count in (0, 2, 32)] == [4, 2, 32]

    path = tmp_path / "work/rows" / f"{KEY}_hg_dagger.json"
    path.write_text(json.dumps({"method": "hg_dagger", "good": {"1": [1, 1]}}))  # as kept before critics were judged
    (fresh,) = result(aloe(*improve(learned, tmp_path, "--runs", KEY, "--methods", "hg_dagger", "--json")))["rows"]
    assert fresh == rows[0], "taken anew"

    other = run(*improve(learned, tmp_path, *words[:4], "--set", "gamma=0.9"))
    assert other.returncode == 2 and "had other settings" in other.stderr


@pytest.mark.parametrize("new_critic", [True, False])
def test_a_critic_begins_anew_or_goes_on_and_notes_are_passed_on(new_critic, monkeypatch):
    critic, met = nn.Linear(1, 1), []
    models = SimpleNamespace(policy=nn.Linear(1, 1), critic=critic, config={}, directory=Path("v0001"))

    def learner(job):
        met.append(job.critic)
        job.notes.append("as it is")

    monkeypatch.setattr(row, "load_models", lambda *_: models)
    monkeypatch.setattr(row, "find_method", lambda _: learner)
    monkeypatch.setattr(row, "publish", lambda *_: Path("v0002"))
    notes = []
    one = plan.Row("sorting", "easy", "aloe", "average", 0)
    replay = row.new_replay(CONTRACT, plan.Budget(observe="objects"))
    row.improve(
        "aloe", replay, Path(), Path("v0001"), {}, one, CONTRACT, print, new_critic=new_critic, notes=notes
    )  # fmt: skip
    assert met == [None if new_critic else critic] and notes == ["as it is"]


@pytest.mark.slow
def test_a_run_that_comes_out_otherwise_is_no_data_of_it(learned, tmp_path):
    copy = shutil.copytree(learned, tmp_path / "copy")
    path = copy / "rows" / f"{KEY}.json"
    row = json.loads(path.read_text())
    row["curve"][1]["interaction_s"] += 1
    path.write_text(json.dumps(row))
    done = aloe(*improve(copy, tmp_path, "--runs", KEY, "--methods", "hg_dagger"))
    assert fails_in_one_sentence(done, 2), done.stderr
    assert "round 1 made again takes" in done.stderr


def test_bad_input_is_one_sentence(run, learned, tmp_path):
    for words, sentence in (
        (("--runs", "nothing", "--methods", "hg_dagger"), f"expected one of {KEY}"),
        (("--runs", KEY, "--methods", "magic"), "magic"),
        (("--runs", KEY, "--methods", "recap,recap"), "method = 'recap': named twice."),
        (("--runs", f"{KEY},{KEY}", "--methods", "recap"), f"run = '{KEY}': named twice."),
        (("--runs", KEY, "--methods", "recap", "--critic", "old"), "critic = 'old': expected new or kept."),
        (("--runs", KEY, "--methods", "recap", "--contract", OTHER), "not of aloha_sim.yaml"),
        (("--runs", KEY, "--methods", "hg_dagger", "--chunks", "1,none"), "chunks = 'none'"),
        (("--learned", tmp_path, "--runs", KEY, "--methods", "hg_dagger"), "not the budget of a `bench learn`"),
    ):
        done = run(*improve(learned, tmp_path, *words))
        assert fails_in_one_sentence(done, 2), done.stderr
        assert sentence in done.stderr


def test_the_table_has_the_best_first_and_pairs_the_others_with_it():
    rows = [
        {
            "method": "a",
            "good": {"1": [1, 0, 0, 0], "8": [1, 1, 1, 0]},
            "critic": {"1": None, "8": {"spearman": 0.5, "ece": 0.25, "bias": -0.125}},
        },
        {"method": "b", "good": {"1": [1, 1, 0, 0]}},
        {"method": "a", "good": {"1": [0, 0, 0, 0], "8": [1, 1, 1, 1]}},
        {"method": "b", "good": {"1": [1, 1, 0, 0]}},
    ]
    facts = {"hardware": "a machine", "revision": "0123456789abcdef", "episodes": 4, "runs": ["r0", "r1"]}
    facts |= {"critic": "kept", "overrides": {"actor_steps": 90}}
    assert "on top of the run's own: {'actor_steps': 90}." in markdown(rows, facts)
    lines = [line for line in markdown(rows, facts).splitlines() if line.startswith(("| a", "| b"))]
    assert [line.split(" | ")[:2] for line in lines] == [["| a", "8"], ["| b", "1"], ["| a", "1"]]
    assert "| 0.875 (" in lines[0] and "| 0.75, 1.00 |" in lines[0] and lines[0].endswith("|  | 0.50, 0.25, -0.12 |")
    assert "| 0.375 (" in lines[1]
    spread = 1.96 * np.std([0, 0, 1, 0, 0, 0, 1, 1], ddof=1) / np.sqrt(8)
    assert paired(np.array([1, 1, 1, 0, 1, 1, 1, 1]), np.array([1, 1, 0, 0, 1, 1, 0, 0])) == (
        f"0.375 ({0.375 - spread:.3f} to {0.375 + spread:.3f})"
    )

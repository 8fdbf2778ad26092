"""The learning benchmark, as small as it goes, by the real command."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from aloe_cli.bench.learning import plan, row
from aloe_core.episode.data import Outcome
from cli_tools import aloe

TINY = {
    "bc_steps": 4,
    "bc_head_steps": 4,
    "critic_steps": 4,
    "actor_steps": 2,
    "actor_head_steps": 4,
    "refresh_steps": 2,
    "width_head": 16,
    "keypoints": 4,
}


def learn(folder: Path, *arguments: str) -> list[str]:
    """Words of the command."""
    settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    where = ("--work", str(folder / "work"), "--out", str(folder / "table"), "--contract", CONTRACT)
    amounts = ("--demonstrations", "1", "--rounds", "1", "--budget", "3", "--episodes", "1", "--last-episodes", "2")
    alone = ("--seeds", "1", "--processes", "1", "--json")
    return ["bench", "learn", *amounts, *where, *settings, *alone, *arguments]


CONTRACT = str(Path(__file__).parents[3] / "config/robots/desk_arm.yaml")


@pytest.mark.slow
def test_methods_are_compared_and_what_was_run_is_not_run_again(run, tmp_path):
    words = learn(tmp_path, "--methods", "hg_dagger,aloe_select+distilled+priors")
    done = aloe(*words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert [row["method"] for row in result["rows"]] == ["hg_dagger", "aloe_select+distilled+priors"]
    assert [row["critic"] is None for row in result["rows"]] == [True, False]
    assert result["rows"][1]["overrides"] == {"prior_scale": 0.3, "long_chunk": 16}
    for one in result["rows"]:
        assert {"task", "method", "seed", "final_success", "successes_per_hour", "intervention_rate"} <= one.keys()
        before, after = one["curve"]
        assert before["interaction_s"] == 0 and after["interaction_s"] >= 3
        assert (before["episodes"], after["episodes"]) == (1, 2)
    warm = [row["curve"][0] for row in result["rows"]]
    assert warm[0] == warm[1], "one warm start"
    assert all((tmp_path / f"table.{ending}").stat().st_size for ending in ("json", "md", "png"))

    kept = (tmp_path / "work/rows").iterdir()
    stamps = {file: file.stat().st_mtime_ns for file in kept}
    again = aloe(*words)
    assert again.returncode == 0, again.stderr
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "work/rows").iterdir()} == stamps

    part = run(*learn(tmp_path, "--methods", "recap,hg_dagger", "--only-finished"))
    assert [row["method"] for row in json.loads(part.stdout.splitlines()[-1])["rows"]] == ["hg_dagger"]
    none = run(*learn(tmp_path, "--methods", "recap", "--only-finished"))
    assert none.returncode == 2 and "none of these runs is finished" in none.stderr

    published, elsewhere = tmp_path / "table.json", tmp_path / "elsewhere"
    elsewhere.mkdir()
    adopted = run(*learn(elsewhere, "--methods", "hg_dagger", "--from", str(published), "--only-finished"))
    assert adopted.returncode == 0, adopted.stderr
    assert json.loads(adopted.stdout.splitlines()[-1])["rows"] == json.loads(published.read_text())["rows"]

    other = run(*learn(elsewhere / "2", "--methods", "hg_dagger", "--rounds", "2", "--from", str(published)))
    assert other.returncode == 2 and "another budget or contract (rounds)" in other.stderr
    rubbish = run(*learn(elsewhere / "3", "--methods", "hg_dagger", "--from", __file__))
    assert rubbish.returncode == 2 and "not a result of `bench learn`" in rubbish.stderr

    other = run(*learn(tmp_path, "--methods", "hg_dagger", "--rounds", "2"))
    assert other.returncode == 2 and "had another budget" in other.stderr


def test_an_unknown_method_or_person_is_one_sentence(run, tmp_path):
    for arguments, words in (
        (("--methods", "magic"), "method = 'magic': expected one of"),
        (("--methods", "aloe+magic"), "variant = 'magic': expected one of"),
        (("--methods", "bc", "--humans", "robot"), "human = 'robot': expected one of skilled"),
    ):
        done = run(*learn(tmp_path, *arguments))
        assert done.returncode == 2 and words in done.stderr


@pytest.mark.slow
def test_runs_do_not_outlive_a_benchmark_that_was_killed(tmp_path):
    words = learn(tmp_path, "--methods", "hg_dagger", "--set", "bc_head_steps=1000000")
    command = [sys.executable, "-m", "aloe_cli", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert any("cloning" in line for line in process.stderr), "the fit of its head comes next and goes on"
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
    finally:
        process.kill()
        process.communicate()
    assert psutil.wait_procs(workers, timeout=20)[1] == []


def test_successes_are_limited_over_all_rounds(monkeypatch):
    """Ten in three rounds are 4, 3 and 3."""
    won = SimpleNamespace(steps=1, dt=0.1, outcome=Outcome.SUCCESS)
    monkeypatch.setattr(row, "load", lambda *_: None)
    monkeypatch.setattr(row, "run_episode", lambda *_, **__: won)
    one, budget = plan.Row("sorting", "easy", "aloe", "average", 0), plan.Budget(successes=10, rounds=3)
    counts: list[int] = []
    for number in (1, 2, 3):
        counts.append(len(row.collect_round(one, budget, CONTRACT, None, Path(), number, sum(counts))))
    assert counts == [4, 3, 3]

"""`./aloe bench ogbench`: its data and rewards are OGBench's, runs go on where they were, errors are one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("ogbench", reason="OGBench is not installed")

from aloe_cli.bench import ogbench_data, ogbench_phases, ogbench_run, ogbench_separation
from aloe_cli.bench.ogbench_run import METHODS, Budget, Row
from aloe_cli.bench.ogbench_table import LOSSES, fewer, markdown, write
from aloe_critic.flat.config import FlatConfig
from aloe_critic.flat.data import Episodes, chunk_transitions
from aloe_critic.flat.learner import FlatLearner
from cli_tools import fails_in_one_sentence


@pytest.fixture
def short(monkeypatch):
    """Episodes of a second: all that matters here is what is done with them."""
    monkeypatch.setattr(ogbench_data, "EPISODE_STEPS", 30)
    monkeypatch.setattr(ogbench_data, "SHARD", 1)
    monkeypatch.setattr(ogbench_run, "_LIMITS", dict.fromkeys(ogbench_run._LIMITS, 10))


def test_play_data_is_that_of_its_seed_and_is_kept(short, tmp_path):
    made: list[int] = []
    first = ogbench_data.play("double", 2, tmp_path / "a", made.append)
    assert made == [1, 2]
    again = ogbench_data.play("double", 1, tmp_path / "b")
    assert first.observations.shape == (2, 30, 37) and first.actions.shape == (2, 30, 5)
    assert np.array_equal(first.observations[:1], again.observations)
    assert not np.array_equal(first.observations[0], first.observations[1])
    assert np.abs(first.actions).max() <= 1
    path = tmp_path / "a" / "double-0000.npz"
    before = path.stat().st_mtime_ns
    ogbench_data.play("double", 2, tmp_path / "a")
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("cubes", ["single", "double", "triple"])
def test_every_task_of_ogbench_is_there_and_lasts_as_long_as_it_says(cubes):
    from aloe_cli.bench.ogbench import _rows

    rows = _rows(",".join(f"cube-{cubes}-task{task}" for task in range(1, 6)) + f",cube-{cubes}", "bc", 1)
    assert [row.task for row in rows] == [
        1,
        2,
        3,
        4,
        5,
        ogbench_data.make(f"cube-{cubes}-singletask-v0").unwrapped._reward_task_id,
    ]
    for row in rows:
        env = ogbench_data.make(f"{row.name.replace('-task', '-singletask-task')}-v0")
        assert env.spec.max_episode_steps == ogbench_run._LIMITS[cubes]


def test_a_single_cube_is_played_with_and_earns_minus_one_until_it_is_there(short, tmp_path):
    plays = ogbench_data.play("single", 1, tmp_path)
    assert plays.observations.shape == (1, 30, 28) and plays.objects.shape == (1, 30, 1, 3)
    reward, done = ogbench_data.rewards(plays.objects, plays.objects[0, -1])
    assert set(reward.ravel()) <= {-1.0, 0.0} and np.array_equal(reward == 0, done) and done[0, -1]


def test_rewards_are_those_of_the_environment():
    env = ogbench_data.make("cube-double-singletask-task1-v0")
    env.reset(seed=0)
    goals = env.unwrapped._data.mocap_pos.copy()
    for _ in range(5):
        _, reward, _, _, info = env.step(env.action_space.sample())
        cubes = info["prev_qpos"][14:].reshape(2, 7)[:, :3]
        mine, done = ogbench_data.rewards(cubes[None], goals)
        assert mine[0] == reward and done[0] == info["success"]
    one_off = goals + np.array([[0, 0, 0.05], [0, 0, 0]])
    mine, done = ogbench_data.rewards(np.stack([goals, one_off]), goals)
    assert mine.tolist() == [0, -1] and done.tolist() == [True, False]


@pytest.mark.parametrize(("near", "expected"), [(1.0, 1.0), (0.0, 0.5), (-1.0, 0.0)])
def test_q_separates_where_the_task_is_soon_done_from_where_it_is_not(monkeypatch, near, expected):
    monkeypatch.setattr(ogbench_separation, "SOON", 2)
    done = np.zeros((2, 10), bool)
    done[0, 5] = True
    states = np.zeros((2, 10, 3), np.float32)
    states[0, [3, 4], 0] = near
    states[0, [5, 8], 0] = 9  # done already; too little after it to know
    episodes = Episodes(states, np.zeros((2, 10, 2), np.float32), np.zeros((2, 10, 1, 3), np.float32))
    data = chunk_transitions(episodes, np.where(done, 0.0, -1.0), done, horizon=1, gamma=0.9)
    learner = FlatLearner(data, FlatConfig(width=8, layers=2))
    monkeypatch.setattr(learner, "score", lambda z, chunks: z[:, :1])
    assert ogbench_separation.separation(learner, data, done) == expected
    assert ogbench_separation.separation(learner, data, np.zeros_like(done)) is None
    monkeypatch.setattr(ogbench_separation, "SOON", 10)
    assert ogbench_separation.separation(learner, data, done) is None


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_result(short, monkeypatch, tmp_path):
    monkeypatch.setattr(ogbench_phases, "NOTED_EVERY", 3)
    monkeypatch.setattr(ogbench_phases, "SAVED_EVERY_S", 0.0)
    row, budget, fitted = Row("double", 1, "aloe", 0), Budget(2, 8, 1), []
    measure = ogbench_run._measure
    monkeypatch.setattr(
        ogbench_run, "_measure", lambda e, learner, *rest: fitted.append(learner) or measure(e, learner, *rest)
    )
    ogbench_run.run(row, budget, tmp_path / "whole", lambda *what: None)
    update, calls = FlatLearner.update_critic, []

    def killed_at_the_tenth(learner):
        calls.append(1)
        if len(calls) == 10:  # in the third phase, two updates after it was last saved
            raise Killed
        return update(learner)

    monkeypatch.setattr(FlatLearner, "update_critic", killed_at_the_tenth)
    with pytest.raises(Killed):
        ogbench_run.run(row, budget, tmp_path / "killed", lambda *what: None)
    ogbench_run.run(row, budget, tmp_path / "killed", lambda *what: None)
    whole, resumed = fitted
    for name, value in whole.state().items():
        assert name == "random" or torch.equal(value, resumed.state()[name]), name
    assert not list((tmp_path / "killed" / "unfinished").iterdir())
    results = [json.loads((tmp_path / way / "rows" / f"{row.key}.json").read_text()) for way in ("whole", "killed")]
    assert results[0]["losses"] == results[1]["losses"] and len(results[0]["losses"]) == 4
    assert [step for step, _ in results[0]["losses"]["cloning"]] == [3, 6, 8]

    (tmp_path / f"whole/rows/{row.key}.json").unlink()  # killed after the networks were written, before tidying up
    left = tmp_path / f"whole/unfinished/{row.key}.safetensors"
    left.touch()
    again = ogbench_run.run(row, budget, tmp_path / "whole", lambda *what: None)
    assert again["success"] == results[0]["success"] and not left.exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_there_is_not_run_again(short, tmp_path, method):
    row, budget, told = Row("double", 1, method, 0), Budget(2, 2, 1), []
    result = ogbench_run.run(row, budget, tmp_path, lambda *what: told.append(what))
    assert 0 <= result["low"] <= result["success"] <= result["high"] <= 1 and told
    told.clear()
    assert ogbench_run.run(row, budget, tmp_path, lambda *what: told.append(what)) == result and not told


FACTS = {"hardware": "a computer", "revision": "0123456789abcdef", "budget": vars(Budget(1, 2, 10))}
FITTED = {"fitted_on": "a GPU"}


def test_the_table_shows_the_papers_figures_beside_ours(tmp_path):
    row = {
        "task": "cube-double-task1",
        "method": "qc",
        "seed": 0,
        "success": 0.5,
        "episodes": 10,
        "separation": 0.8,
    } | FITTED
    write([row, row | {"seed": 1, "success": 0.7, "separation": None}], FACTS, tmp_path / "table")
    text = (tmp_path / "table.md").read_text()
    assert "| cube-double-task1 | qc (QC) | 0.60 (0.39 to 0.78) | 0.50, 0.70 | 0.80 | 0.46 (0.36 to 0.56) |" in text
    assert "![success](table.png)" in text and (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "table.json").read_text())["rows"]) == 2


def test_published_losses_are_few_and_their_means_those_of_all_updates():
    losses = [[250.0 * n, float(n)] for n in range(1, 401)] + [[100_010.0, 7.0]]
    kept = fewer(losses)
    assert len(kept) <= LOSSES and kept[-1][0] == 100_010
    steps = np.diff([0, *(step for step, _ in kept)])
    assert np.dot(steps, [mean for _, mean in kept]) == pytest.approx(250 * sum(range(1, 401)) + 70)
    assert fewer(losses[:3]) == losses[:3] and fewer([]) == []


def test_a_task_that_the_paper_has_not_has_no_figures_of_it():
    row = {"task": "cube-single-task2", "method": "qc", "seed": 0, "success": 0.5, "episodes": 10} | FITTED
    text = markdown([row], FACTS, "table")
    assert "| cube-single-task2 | qc (QC) | 0.50 (0.24 to 0.76) | 0.50 | - | - | - |" in text
    assert "the paper has no `cube-single`" in text and "Data: 1,001 steps" in text


@pytest.mark.slow
@pytest.mark.parametrize("networks", ["small", "paper"])
def test_what_was_fitted_elsewhere_is_measured_here(short, monkeypatch, tmp_path, networks):
    """Fitting needs play data and goals alone, so a machine without a simulator can do it."""
    row, budget = Row("double", 1, "qc", 0), Budget(2, 2, 1, networks)
    whole = ogbench_run.run(row, budget, tmp_path / "whole", lambda *what: None)
    make = ogbench_data.make
    ogbench_data.play("double", 3, tmp_path / "parts" / "play")
    ogbench_run._goals(row, tmp_path / "parts" / "play" / f"{row.name}.npy")
    monkeypatch.setattr(ogbench_data, "make", lambda name, **options: pytest.fail("the simulator was asked for"))
    for _ in range(2):
        assert ogbench_run.run(row, budget, tmp_path / "parts", lambda *what: None, fit_only=True) is None
    monkeypatch.setattr(ogbench_data, "make", make)
    result = ogbench_run.run(row, budget, tmp_path / "parts", lambda *what: None)
    timed = {"train_s", "measure_s"}
    assert {k: v for k, v in whole.items() if k not in timed} == {k: v for k, v in result.items() if k not in timed}


def test_what_does_not_exist_is_named_and_budgets_do_not_mix(run, tmp_path):
    for task in ("cube-nine", "cube-single-task6", "cube-single-"):
        done = run("bench", "ogbench", "--tasks", f"cube-double,{task}")
        assert fails_in_one_sentence(done, 2) and f"No task {task!r}" in done.stderr
    done = run("bench", "ogbench", "--methods", "magic")
    assert fails_in_one_sentence(done, 2) and "No method 'magic'" in done.stderr
    for option, value in (("--networks", "huge"), ("--device", "tpu")):
        done = run("bench", "ogbench", option, value)
        assert fails_in_one_sentence(done, 2) and f"{value!r}: expected" in done.stderr
    (tmp_path / "budget.yaml").write_text(json.dumps({"episodes": 1}))
    done = run("bench", "ogbench", "--work", tmp_path)
    assert fails_in_one_sentence(done, 2) and "another budget" in done.stderr

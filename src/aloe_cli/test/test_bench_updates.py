"""`./aloe bench updates`: rates that fit the time, the loop it is compared with, the cases of a GPU, plain errors."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import pytest
import torch

from aloe_cli.bench import updates, updates_cases
from aloe_cli.bench.updates_reference import PlainLearner
from aloe_cli.bench.updates_turns import in_turn
from aloe_core.errors import AloeError
from aloe_critic.flat.config import FlatConfig
from aloe_critic.flat.learner import FlatLearner
from cli_tools import fails_in_one_sentence, result


def test_updates_gives_rates_that_fit_the_time_and_leaves_the_threads_alone(run):
    before = torch.get_num_threads()
    row = result(run("bench", "updates", "--steps", 3, "--batch", 16, "--threads", 1, "--reference", "--json"))
    assert torch.get_num_threads() == before
    spent = 3 / row["critic_updates_per_s"] + 3 / row["actor_updates_per_s"]
    assert abs(spent - row["wall_s"]) < 1e-6 and row["wall_s"] > 0 and row["cpu_s"] > 0
    assert row["heads"] == 5 and row["threads"] == 1 and "cores" in row["hardware"]
    assert row["reference_wall_s"] > 0


def test_the_loop_it_is_compared_with_has_the_same_networks():
    data, config = updates_cases.random_transitions(46, 25, torch.device("cpu")), FlatConfig()
    ours, plain = FlatLearner(data, config), PlainLearner(data, config)
    assert _count(ours.actor) == _count(plain.actor)
    # The loop's norms have gains and offsets of their own; what costs time, the layers, is the same.
    layers = [m for m in plain.heads.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(map(_count, layers)) == _count(ours.critic)


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_cases_of_the_gpu_run_on_a_cpu_and_write_nothing(run, tmp_path):
    out = tmp_path / "gpu.json"
    arguments = ("--case", "obs46-act5-h5-distilled", "--steps", 1, "--batch", 4, "--out", out, "--json")
    rows = result(run("bench", "updates", *arguments))["rows"]
    assert [row["heads"] for row in rows] == [2, 10] and all(row["updates_per_s"] > 0 for row in rows)
    assert rows[0]["jax_scan_per_s"] == 935 and not out.exists()


def test_what_does_not_exist_is_named(run):
    for option, value, said in (
        ("--precision", "half", "precision = 'half'"),
        ("--actor", "huge", "No actor 'huge'"),
        ("--device", "tpu", "No device 'tpu'"),
        ("--case", "cubes", "No case 'cubes'"),
    ):
        done = run("bench", "updates", option, value)
        assert fails_in_one_sentence(done, 2) and said in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here, so nothing is refused")
def test_without_a_gpu_its_cases_are_refused(run):
    done = run("bench", "updates", "--device", "cuda", "--case", "all")
    assert fails_in_one_sentence(done, 2) and "no CUDA device" in done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA GPU")
@pytest.mark.parametrize("policy", ["flow", "distilled"])
def test_a_graph_of_a_whole_update_learns(policy):
    device = torch.device("cuda")
    data = updates_cases.random_transitions(6, 4, device)
    learner = FlatLearner(data, FlatConfig(width=32, batch=64, lr=3e-3, policy=policy))
    update = updates_cases.one_graph(learner.update)
    first = update().item()
    for _ in range(300):
        last = update()
    assert torch.isfinite(last) and last.item() < first


WORKER = """
import pathlib, sys, json
here = pathlib.Path(sys.argv[1])
(here / f"ready{sys.argv[2]}").touch()
print("ready", flush=True)
told = sys.stdin.readline()
others = len(list(here.glob("ready*")))
busy = here / "busy"
busy.touch(exist_ok=False)
busy.unlink()
print(json.dumps({"me": sys.argv[2], "told": told.strip(), "others": others}), flush=True)
"""


def test_all_are_ready_before_the_first_is_measured_and_one_is_measured_at_a_time(tmp_path):
    heard = []
    commands = [[sys.executable, "-c", WORKER, str(tmp_path), str(n)] for n in range(3)]
    rows = list(in_turn(commands, "7", os.environ, lambda *what: heard.append(what)))
    assert rows == [{"me": str(n), "told": "7", "others": 3} for n in range(3)]
    assert heard == [("compiled", n) for n in (1, 2, 3)] + [("measured", n) for n in (1, 2, 3)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_fails_says_why_and_ends_the_others(tmp_path, when):
    fails = "raise SystemExit('out of memory')" if when == "before" else "print('ready', flush=True); 1 / 0"
    said = "out of memory" if when == "before" else "ZeroDivisionError"
    waits = "print('ready', flush=True); input()"
    with pytest.raises(AloeError, match=said):
        list(in_turn([[sys.executable, "-c", code] for code in (fails, waits)], "1", os.environ, lambda *what: None))


def test_the_process_of_a_case_gives_its_row():
    asked = updates_cases.Asked("obs46-act5-h5-distilled", 2, 4, "cpu", bfloat16=False, compiled=False)
    command = [sys.executable, "-m", "aloe_cli.bench.updates_cases", json.dumps(asdict(asked))]
    [row] = in_turn([command], "1", os.environ, lambda *what: None)
    assert row["case"] == asked.case and row["heads"] == 2 and row["updates_per_s"] > 0


def test_jax_is_compared_with_on_a_gpu_alone(run, tmp_path):
    done = run("bench", "updates", "--case", "all", "--jax", tmp_path)
    assert fails_in_one_sentence(done, 2) and "--jax needs --device cuda" in done.stderr


def test_each_row_stands_beside_the_jax_code_with_as_many_heads(monkeypatch, tmp_path):
    """The way of a GPU, with canned processes: none is here."""
    asked = []

    def canned(commands, told, environment, tell):
        for command in commands:
            asked.append(shape := json.loads(command[-1]))
            if str(tmp_path) in command:
                yield {"jax_scan_per_s": shape["heads"], "jax_update_per_s": 1.0, "jax": "0", "device": "a GPU"}
            else:
                yield {"case": shape["case"], "heads": shape["heads"], "bfloat16": shape["bfloat16"]}

    monkeypatch.setattr(updates, "in_turn", canned)
    case, device = "obs40-act14-h25-best32", torch.device("cuda")
    rows = list(updates._cases(case, device, 5, 256, "auto", True, tmp_path))
    assert [(row["heads"], row["bfloat16"]) for row in rows] == [(2, False), (2, True), (10, False), (10, True)]
    assert all(row["jax_scan_per_s"] == row["heads"] and "same run" in row["jax"] for row in rows)
    assert asked[0] == {"states": 40, "actions": 14, "horizon": 25, "distilled": False, "heads": 2, "batch": 256}
    assert not any("same run" in row.get("jax", "") for row in updates._cases(case, device, 5, 256, "auto", True, None))

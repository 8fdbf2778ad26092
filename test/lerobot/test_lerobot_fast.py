"""Our own computation of chunks: LeRobot's numbers, nothing in it that a GPU would wait for, and its benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lerobot_tools import run

from aloe_cli import lerobot

pytestmark = pytest.mark.timeout(1800)

FLOWS = ["smolvla", "smolvla_framed", "pi0", "pi05", "pi0_third", "pi05_bfloat16"]
PLAIN = [name for name in FLOWS if "_" not in name]
COLUMNS = ["model", "chunk_ms", "lerobot_eager_ms", "lerobot_compiled_ms", "floor_ms", "eight_chunks_ms", "warmup_s"]
COLUMNS += ["max_rel_err", "hardware"]


@pytest.fixture(scope="module")
def found(saved):
    return json.loads(run("fast_in_process.py", *(saved / name for name in FLOWS), small=True))


@pytest.mark.parametrize("name", FLOWS)
def test_chunks_and_features_are_lerobots_for_the_same_noise(found, name):
    exact = 2e-2 if name == "pi05_bfloat16" else 1e-5
    errors = found[name]["float32"]
    assert errors["chunks"] < exact and errors["features"] < exact and errors["asked"] < 1e-6
    rounded = found[name]["bfloat16"]
    assert 1e-5 < rounded["chunks"] < 3e-2 and rounded["features"] < 3e-2 and rounded["asked"] < 3e-2


@pytest.mark.parametrize("name", PLAIN)
def test_each_kind_of_layer_is_compiled_for_one_chunk_and_for_several_whatever_their_number(found, name):
    # vision, prefix with and without its last layer; twice: steps, layers of the flow (SmolVLA has two kinds)
    assert found[name]["compilations"] == (9 if name == "smolvla" else 7)


@pytest.mark.parametrize("name", PLAIN)
def test_what_cannot_be_recorded_is_said_once_and_computed_step_by_step(found, name):
    said = found[name]["no_graph"]["said"].strip().splitlines()
    assert len(said) == 1 and said[0].startswith("Chunks are computed without a CUDA graph, slowly (")
    assert found[name]["no_graph"]["error"] < 1e-5


@pytest.mark.parametrize("name", PLAIN)
def test_a_server_sends_the_same_actions_with_either_code(found, name):
    assert found[name]["served"] < 1e-5


@pytest.mark.parametrize("kind", PLAIN)
def test_at_full_size_no_operation_on_a_gpu_waits_for_the_host_or_takes_from_its_memory(offline, kind):
    facts = json.loads(run("fast_on_a_gpu.py", kind))
    width = 960 if kind == "smolvla" else 2048
    # π0.5 by hand: 3.05 + 0.63 + 0.12 Tflop of prefix, vision and attention, and 311 M weights read ten times
    floors = {"smolvla": (1.0, 2.2), "pi0": (6.0, 8.0), "pi05": (6.0, 8.0)}[kind]
    assert facts.pop("lerobot_waits"), "LeRobot's own step takes a mask from the host: it would be seen"
    for n, chunks in facts.items():
        assert not chunks["waits"], chunks["waits"]
        assert chunks["shape"] == [int(n), 50, 32]
        assert floors[0] < chunks["floor_ms"] < floors[1] * (1 if n == "1" else 1.3)
        assert chunks["features"] == (None if n == "1" else [1, 4 * width])


def test_the_benchmark_runs_without_a_gpu_and_says_that_its_figures_are_of_none(tmp_path):
    done = bench("--device", "cpu", "--small", "--repeats", "3", "--models", "smolvla,pi05", "--out", tmp_path / "gpu")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert not result["gpu"] and [row["model"] for row in result["rows"]] == ["smolvla", "pi05"]
    for row in result["rows"]:
        assert all(row[key] is not None for key in COLUMNS if key not in ("lerobot_compiled_ms", "floor_ms"))
        assert row["lerobot_compiled_ms"] is None and row["floor_ms"] is None and "no GPU" in row["hardware"]
        assert row["max_rel_err"] < 1e-4
    assert "**Not of a GPU" in (tmp_path / "gpu.md").read_text()
    assert bench("--measured", tmp_path / "gpu.json", "--out", tmp_path / "again").returncode == 0
    assert (tmp_path / "again.md").read_text() == (tmp_path / "gpu.md").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "cpu"], "add --small"),
        (["--measured", "nothing.json"], "nothing.json: expected a result of bench infer-gpu (FileNotFoundError"),
        (["--models", "pi0,act"], "No model 'act': expected of smolvla, pi0, pi05."),
    ],
)
def test_a_benchmark_that_means_nothing_is_refused_in_a_sentence(options, words):
    done = bench(*options)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def bench(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aloe_cli", "bench", "infer-gpu", *map(str, options)]
    environment = os.environ | {lerobot.ENVIRONMENT: str(lerobot.interpreter().parents[1])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)

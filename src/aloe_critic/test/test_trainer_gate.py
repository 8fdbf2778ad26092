"""The gate between learning and publishing."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from aloe_core.checkpoint import latest, read_manifest
from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.trainer import TrainRequest, train

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "src" / "aloe_core" / "test"))
import bagmaker

SMALL = {"threads": 1, "width_head": 16, "keypoints": 4, "bc_batch": 4, "head_batch": 8, "critic_batch": 8}
SHORT = {"bc_steps": 2, "bc_head_steps": 2, "critic_steps": 3, "actor_steps": 2, "actor_head_steps": 2, "bank": 2}
LOOSE = "min_episodes: 1\nmin_chunks: 1\nmin_spearman: null\nmin_auc_50: null\nmin_ranking: null\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bags to learn from, bags held out, and a cloned checkpoint."""
    root = tmp_path_factory.mktemp("gate")
    patch = pytest.MonkeyPatch()
    picture = cv2.imencode(".jpg", np.zeros((96, 96, 3), np.uint8))[1].tobytes()
    patch.setattr(bagmaker, "jpeg", lambda camera, frame: picture)
    for name, source in (("learn", Source.HUMAN), ("held_out", Source.POLICY)):
        for number, outcome in enumerate((Outcome.SUCCESS, Outcome.FAILURE)):
            (root / name).mkdir(exist_ok=True)
            take = bagmaker.Take(root / name, f"{name}{number}")
            take.run(25, source=int(source))
            take.writer.close(bagmaker.labels(steps=25, outcome=outcome))
    patch.undo()
    train(request(root, method="bc"))
    return root


def request(root, method="aloe", gate="", **changes):
    contract = str(ROOT / "config" / "robots" / "aloha_sim.yaml")
    if gate:
        (root / "gate.yaml").write_text(gate)
        changes = {"gate": str(root / "gate.yaml"), "held_out": [str(root / "held_out")]} | changes
    asked = TrainRequest([str(root / "learn")], str(root / "checkpoints"), contract, method, overrides=SMALL | SHORT)
    return dataclasses.replace(asked, **changes)


def test_a_refused_update_names_the_figure_and_is_kept_but_not_published(folder):
    before = latest(folder / "checkpoints")
    with pytest.raises(AloeError, match=r"shadow\.deviation = .*expected at most 1e-09.*It is kept in") as caught:
        train(request(folder, gate=LOOSE + "max_ece: null\nmax_deviation: 1.0e-9\n"))
    assert latest(folder / "checkpoints") == before
    kept = Path(str(caught.value).split("It is kept in ")[1].rstrip("."))
    assert "held_out_spearman" in read_manifest(kept).metrics


@pytest.mark.slow
def test_after_a_refusal_the_same_request_begins_anew_and_sees_newer_bags(folder):
    gate = LOOSE + "max_ece: null\nmax_deviation: 1.0e-9\n"
    with pytest.raises(AloeError, match="Update refused"):
        train(request(folder, gate=gate))
    shutil.copytree(folder / "held_out/held_out0", folder / "learn/newer")
    seen = []
    try:
        with pytest.raises(AloeError, match="Update refused"):
            train(request(folder, gate=gate), lambda phase, step, steps, _: seen.append((phase, step, steps)))
    finally:
        shutil.rmtree(folder / "learn/newer")
    assert ("reading bags", 3, 3) in seen and any(phase == "critic" for phase, *_ in seen)


def test_an_update_that_passes_is_published_with_what_the_gate_saw(folder):
    result = train(request(folder, gate=LOOSE + "max_ece: 1000\nmax_deviation: 1000\nmax_outside: 1\n"))
    assert Path(result.uri) == latest(folder / "checkpoints").resolve()
    metrics = read_manifest(Path(result.uri)).metrics
    assert metrics["held_out_spearman"] is not None


def test_without_a_critic_the_gate_abstains_and_may_be_told_to_refuse(folder):
    result = train(request(folder, method="bc", gate="abstain: publish\n"))
    assert result.metrics["gate_abstained"] == ["no critic to judge with."]
    with pytest.raises(AloeError, match="not judged, and abstain = 'refuse': no critic"):
        train(request(folder, method="bc", gate="abstain: refuse\n"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"held_out": []}, "name folders of them"),
        ({"held_out": ["/nowhere"]}, "/nowhere: no such folder"),
        ({"held_out": ["{learn}"]}, "learn0: held out and to learn from"),
    ],
)
def test_a_gate_that_cannot_judge_says_why(folder, changes, words):
    changes = {"held_out": [name.format(learn=folder / "learn") for name in changes["held_out"]]}
    with pytest.raises(AloeError, match=words):
        train(request(folder, gate=LOOSE, **changes), lambda *event: pytest.fail(f"training began: {event}"))


def test_a_gate_without_its_file_says_why(folder):
    with pytest.raises(AloeError, match=r"/nowhere\.yaml: cannot be read"):
        train(dataclasses.replace(request(folder), gate="/nowhere.yaml"))

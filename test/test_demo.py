"""The smoke demo: every step of the loop for real, through the launched graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from rosbags.highlevel import AnyReader

from aloe_core.checkpoint import latest, verify_checkpoint
from aloe_core.episode.bag import read_labels

pytest.importorskip("rclpy")

pytestmark = pytest.mark.slow

KEYS = {
    "task",
    "seeds",
    "sft_success",
    "final_success",
    "eval_episodes",
    "intervention_rate_first",
    "intervention_rate_last",
    "bags",
    "transitions",
    "checkpoints_published",
    "checkpoints_loaded",
    "dropped_messages",
    "wall_s",
    "learning_s",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(
        [sys.executable, "-m", "aloe_cli", "demo", "--out", str(out)],
        env=os.environ | {"ALOE_DEMO": "smoke"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    log = out / "graph.log"
    assert done.returncode == 0, done.stderr + (log.read_text()[-3000:] if log.exists() else "")
    return out, json.loads(done.stdout.splitlines()[-1])


def test_last_line_counts_what_lies_on_disk(demo):
    out, result = demo
    assert result.keys() >= KEYS
    bags = [p.parent for p in out.glob("bags/*/*/metadata.yaml")]
    assert result["bags"] == len(bags) == 8
    assert result["checkpoints_published"] == result["checkpoints_loaded"] == 2
    assert result["dropped_messages"] == 0
    assert result["transitions"] > 0
    assert 0 < result["learning_s"] < result["wall_s"]


def test_bags_hold_steps_modes_labels_and_values_for_an_independent_reader(demo):
    out, _ = demo
    for bag in sorted(p.parent for p in out.glob("bags/*/*/metadata.yaml")):
        labels = read_labels(bag)
        with AnyReader([bag]) as reader:
            count = {c.topic: c.msgcount for c in reader.connections}
        assert count["/control/executed"] >= labels.steps > 0
        assert count["/control/mode"] >= 1 and count["/task"] >= 1 and count["/joint_states"] > 0
        if bag.parent.name == "eval_after":
            assert count["/policy/value"] >= 1 and labels.policy_versions == ("v0002-aloe_takeover",)
        if bag.parent.name == "demonstrations":
            assert labels.intervention_steps == labels.steps and labels.outcome.name == "SUCCESS"


def test_published_checkpoint_is_whole_and_descends_from_the_clone(demo):
    out, _ = demo
    manifest = verify_checkpoint(latest(out / "checkpoints"))
    assert (manifest.version, manifest.parent, manifest.method) == ("v0002-aloe_takeover", "v0001-bc", "aloe_takeover")


def test_report_has_its_pictures(demo):
    out, _ = demo
    for name in ("report.md", "learning_curve.png", "q_over_time.png", "episode.gif", "result.json"):
        assert (out / "report" / name).stat().st_size > 0

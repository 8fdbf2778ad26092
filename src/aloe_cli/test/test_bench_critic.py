"""`./aloe bench critic` on recorded bags: which bags count for which critic, what it prints, bad input."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aloe_core.contract import load_contract
from aloe_critic.hyper import make_hyper
from aloe_critic.job import Learned
from aloe_critic.trainer import publish
from aloe_policy.config import FlowConfig
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.model import FlowPolicy
from cli_tools import fails_in_one_sentence, result

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "src/aloe_core/test"))

import bagmaker
from bagmaker import DT, Take, labels

ROBOT = load_contract(ROOT / "config/robots/aloha_sim.yaml")


@pytest.fixture
def bags(tmp_path, monkeypatch):
    """Three bags driven by policy version v1, with frames that are pictures; in the last one a person takes over."""
    camera = ROBOT.cameras[0]
    picture = cv2.imencode(".jpg", np.full((camera.height, camera.width, 3), 90, np.uint8))[1].tobytes()
    monkeypatch.setattr(bagmaker, "jpeg", lambda *_: picture)
    folder = tmp_path / "bags"
    folder.mkdir()
    for number, steps in enumerate((60, 90, 70)):
        take = Take(folder, f"b{number}")
        for k in range(steps):
            take.state(k)
            human = number == 2 and k >= 40
            take.step(k, **({"source": 2} if human else {"chunk_id": f"c{k // 10}", "chunk_index": k % 10}))
        take.state(steps)
        take.writer.close(labels(steps=steps, label_stamp=(steps + 1) * DT))
    return folder


def checkpoints(root, *parents):
    """Publish untrained critics that descend from one another as `parents` says."""
    torch.manual_seed(0)
    policy = FlowPolicy(FlowConfig.for_contract(ROBOT, keypoints=4, width_head=32, flow_steps=2))
    shape = {"feature_dim": policy.feature_dim, "action_dim": ROBOT.action_dim, "steps": ROBOT.chunk.execute}
    for parent in parents:
        critic = ChunkCritic(CriticConfig(**shape, width=16, layers=2))
        publish(root, "aloe", Learned(policy, critic, 1, (40.0, 20.0)), make_hyper({}), ROBOT, parent)
    return root


def test_a_critic_is_measured_on_bags_of_policies_it_does_not_descend_from(run, bags, tmp_path):
    # The second descends from the policy that drove, and the third from the second.
    root = checkpoints(tmp_path / "checkpoints", "", "v1", "v0002-aloe")
    answer = result(run("bench", "critic", "--checkpoints", root, "--bags", bags, "--updates", 2, "--json"))
    (critic,) = answer["critics"]["aloe"]
    assert (critic["checkpoint"], critic["episodes"]) == ("v0001-aloe", 3)
    figures = critic["figures"]
    assert (figures["spearman"]["episodes"], figures["ranking"]["samples"]) == (2, 1)
    assert answer["aloe"]["spearman"] == figures["spearman"]["value"]
    assert answer["aloe"]["ranking"] in (0.0, 1.0) and answer["aloe"]["auc_50"] is None
    assert answer["updates_per_s"] > 0


def test_bad_input_is_one_sentence(run, bags, tmp_path):
    def said(*words):
        done = run("bench", "critic", *words)
        assert fails_in_one_sentence(done, 2), done.stderr
        return done.stderr

    seen = checkpoints(tmp_path / "seen", "v1")
    assert "together" in said("--bags", bags)
    assert "no method 'magic'" in said("--methods", "magic")
    assert "expected KEY=VALUE" in said("--set", "bc_steps")
    assert "no such folder" in said("--checkpoints", seen, "--bags", tmp_path / "nothing")
    done = run("bench", "critic", "--checkpoints", seen, "--bags", bags)
    assert done.returncode == 2 and "no checkpoint with a critic for which one of 3" in done.stderr

"""`./aloe bag score` on real bags: values, files, a sidecar that rosbags opens, originals untouched, bad input."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rosbags.highlevel import AnyReader
from typer.testing import CliRunner

from aloe_cli.verbs.bag import app
from aloe_core.contract import load_contract
from aloe_core.episode.bag import read_labels
from aloe_critic.hyper import make_hyper
from aloe_critic.job import Learned
from aloe_critic.trainer import publish
from aloe_policy.config import FlowConfig
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.model import FlowPolicy

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "src/aloe_core/test"))

import bagmaker
from bagmaker import DT, Take, labels

CONTRACT = ROOT / "config/robots/aloha_sim.yaml"


def score(*words: object, code: int = 0) -> dict:
    """Run `aloe bag score … --json` and return its last line; the exit code must be `code`."""
    done = CliRunner().invoke(app, ["score", *map(str, words), "--contract", str(CONTRACT), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout.strip().splitlines()[-1])


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder of two checkpoints of untrained networks: without a critic, and with one, which is LATEST."""
    robot, root = load_contract(CONTRACT), tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    policy = FlowPolicy(FlowConfig.for_contract(robot, keypoints=4, width_head=32, flow_steps=2))
    shape = {"feature_dim": policy.feature_dim, "action_dim": robot.action_dim, "steps": robot.chunk.execute}
    critic = ChunkCritic(CriticConfig(**shape, width=16, layers=2))
    hyper = make_hyper({"gamma": 0.99})
    publish(root, "bc", Learned(policy, None, 1), hyper, robot, "")
    publish(root, "aloe_select", Learned(policy, critic, 2, (40.0, 20.0)), hyper, robot, "v0001-bc")
    return root


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A bag of a policy that drives 35 steps, after which a person drives 15, with frames that are pictures."""
    robot = load_contract(CONTRACT)
    camera = robot.cameras[0]
    picture = cv2.imencode(".jpg", np.full((camera.height, camera.width, 3), 90, np.uint8))[1].tobytes()
    monkeypatch.setattr(bagmaker, "jpeg", lambda *_: picture)
    bags = tmp_path / "bags"
    bags.mkdir()
    take = Take(bags, "a")
    for k in range(50):
        take.state(k)
        by_policy = {"chunk_id": f"c{k // 10}", "chunk_index": k % 10}
        take.step(k, **(by_policy if k < 35 else {"source": 2}))
    take.state(50)
    take.writer.close(labels(steps=50, label_stamp=51 * DT))
    return bags


def test_every_chunk_gets_values_a_plot_and_a_sidecar_bag_and_the_original_is_untouched(folder, checkpoints, tmp_path):
    before, out = fingerprint(folder), tmp_path / "out"
    answer = score(folder, "--checkpoint", checkpoints, "--out", out)
    assert fingerprint(folder) == before
    (row,) = answer["bags"]
    chunks = row["chunks"]
    assert [(c["step"], c["steps"], c["source"]) for c in chunks] == [
        (0, 10, "policy"),
        (10, 10, "policy"),
        (20, 10, "policy"),
        (30, 5, "policy"),
        (35, 10, "human"),
        (45, 5, "human"),
    ]
    assert [t["step"] for t in row["takeovers"]] == [35] and row["takeovers"][0]["recorded"] is False
    assert row["return"] == pytest.approx(sum(-(0.99**k) / 40 for k in range(49)))
    assert all((out / name).stat().st_size > 5000 for name in ("a.png", "calibration.png"))
    report = json.loads((out / "report.json").read_text())
    assert report == answer["report"]
    assert (report["critic_version"], report["chunks"], report["autonomous"]["ece"]["value"]) == (
        "v0002-aloe_select",
        6,
        None,
    )
    # rosbags knows nothing of this suite: it reads what any ROS 2 tool would.
    with AnyReader([out / "a_values"]) as reader:
        (connection,) = reader.connections
        assert (connection.topic, connection.msgtype) == ("/policy/value", "aloe_msgs/msg/ValueEstimate")
        read = [(stamp, reader.deserialize(raw, connection.msgtype)) for _, stamp, raw in reader.messages()]
    assert len(read) == len(chunks)
    for (stamp, message), chunk in zip(read, chunks, strict=True):
        assert stamp == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == (chunk["step"] + 1) * DT
        assert (message.q_min, message.q_mean, message.q_std) == pytest.approx(
            (chunk["q_pess"], chunk["q_mean"], chunk["q_std"]), rel=1e-5
        )
        assert message.advantage == pytest.approx(chunk["q_pess"] - chunk["v"], abs=1e-5)
        assert message.critic_version == "v0002-aloe_select"
    assert [message.chunk_id for _, message in read] == ["c0", "c1", "c2", "c3", "", ""]
    assert read_labels(out / "a_values").episode_id == bagmaker.EPISODE


def test_bags_that_cannot_be_used_are_named_and_the_rest_is_scored(folder, checkpoints, tmp_path):
    bagmaker.take(folder, "b", steps=30, label_stamp=31 * DT)
    file = next((folder / "b").glob("*.mcap"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    answer = score(folder, "--checkpoint", checkpoints, "--out", tmp_path / "out", "--chunks")
    assert len(answer["bags"]) == 1
    assert [(Path(bag).name, "damaged" in why) for bag, why in answer["unusable"].items()] == [("b", True)]
    assert (
        "No usable bag among 1"
        in score(folder / "b", "--checkpoint", checkpoints, "--out", tmp_path / "c", code=2)["error"]
    )
    assert not (tmp_path / "c").exists()


def test_bad_input_is_one_sentence(folder, checkpoints, tmp_path):
    def said(*words):
        error = score(*words, "--out", tmp_path / "out", code=2)["error"]
        assert error.count("\n") == 0 and error.endswith(".")
        return error

    assert "v0001-bc: this checkpoint has no critic" in said(folder, "--checkpoint", checkpoints / "v0001-bc")
    assert "not a checkpoint" in said(folder, "--checkpoint", tmp_path)
    assert "no such directory" in said(tmp_path / "nothing", "--checkpoint", checkpoints)
    assert "timeout = 'maybe'" in said(folder, "--checkpoint", checkpoints, "--timeout", "maybe")
    (tmp_path / "out" / "a_values").mkdir(parents=True)
    assert "exists already" in said(folder, "--checkpoint", checkpoints)


def test_another_robots_checkpoint_is_refused(folder, checkpoints, tmp_path):
    text = CONTRACT.read_text()
    changed = text.replace("execute: 10", "execute: 5")
    assert changed != text
    other = tmp_path / "other.yaml"
    other.write_text(changed)
    words = ["score", folder, "--checkpoint", checkpoints, "--contract", other, "--out", tmp_path / "out", "--json"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 2 and "contract_hash" in done.output
    assert not (tmp_path / "out").exists()

"""The trainer as a library: what it refuses, what it sets aside, what it leaves behind."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from aloe_core.checkpoint import latest, list_checkpoints, verify_checkpoint
from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.trainer import TrainRequest, main, train
from aloe_policy.urls import remote_latest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "src" / "aloe_core" / "test"))
import bagmaker

CONTRACT = str(ROOT / "config" / "robots" / "aloha_sim.yaml")
TINY = {"threads": 1, "width_head": 16, "keypoints": 4, "bc_batch": 4, "bc_steps": 2, "bc_head_steps": 2}


@pytest.fixture
def bags(tmp_path, monkeypatch):
    """A folder with one good demonstration."""
    picture = cv2.imencode(".jpg", np.zeros((96, 96, 3), np.uint8))[1].tobytes()
    monkeypatch.setattr(bagmaker, "jpeg", lambda camera, frame: picture)
    folder = tmp_path / "bags"
    folder.mkdir()
    take = bagmaker.Take(folder, "good")
    take.run(12, source=int(Source.HUMAN))
    take.writer.close(bagmaker.labels(steps=12))
    return folder


def request(bags, tmp_path, **changes):
    fields = {"method": "bc", "overrides": TINY} | changes
    return TrainRequest([str(bags)], str(tmp_path / "checkpoints"), CONTRACT, **fields)


def test_damaged_foreign_and_mismatched_bags_are_set_aside_with_a_reason(bags, tmp_path):
    def write(name, **labels):
        take = bagmaker.Take(bags, name)
        take.run(6, source=int(Source.HUMAN))
        return take.writer.close(bagmaker.labels(steps=6, **labels))

    write("other_robot", contract_hash="0" * 16)
    damaged = next(write("damaged").glob("*.mcap"))
    damaged.write_bytes(damaged.read_bytes()[:-200])
    foreign = bags / "foreign"
    foreign.mkdir()
    (foreign / "metadata.yaml").write_text("nothing: of ours\n")
    result = train(request(bags, tmp_path))
    assert result.episodes == 1
    assert {Path(p).name for p in result.set_aside} == {"other_robot", "damaged", "foreign"}
    assert all(name in reason for name, reason in ((Path(p).name, r) for p, r in result.set_aside.items()))


def test_a_critic_that_cannot_go_on_learning_is_said(bags, tmp_path):
    few = TINY | {"critic_width": 16, "critic_steps": 2, "actor_steps": 2, "actor_head_steps": 2, "refresh_steps": 2}
    assert train(request(bags, tmp_path)).notes == []
    assert train(request(bags, tmp_path, method="aloe", overrides=few)).notes == []
    assert train(request(bags, tmp_path, method="aloe", overrides=few)).notes == []
    (note,) = train(request(bags, tmp_path, method="aloe", overrides=few | {"gamma": 0.9})).notes
    assert note == "The checkpoint's critic cannot go on learning (gamma = 0.998, now 0.9): a new one begins."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "allo"}, "method = 'allo': expected one of bc"),
        ({"overrides": {"bc_step": 3}}, "did you mean 'bc_steps'"),
        ({"overrides": {"gamma": "much"}}, "gamma = 'much'"),
        ({"init": "v0099"}, "init = 'v0099'"),
        ({"method": "aloe"}, "--method bc first"),
        ({"tracker": "spreadsheet"}, "tracker = 'spreadsheet': expected wandb or trackio"),
        ({"overrides": TINY | {"sample_source": {"robot": 1}}}, "sample_source = 'robot'"),
    ],
)
def test_bad_request_is_one_sentence_and_writes_no_checkpoint(bags, tmp_path, changes, words):
    with pytest.raises(AloeError, match=words) as caught:
        train(request(bags, tmp_path, **changes))
    assert "\n" not in str(caught.value)
    assert list_checkpoints(tmp_path / "checkpoints") == []


def test_unwritable_checkpoint_folder_is_refused_before_training(bags, tmp_path):
    (tmp_path / "checkpoints").write_text("a file is in the way")
    with pytest.raises(AloeError, match="cannot be written"):
        train(request(bags, tmp_path))


def test_folder_without_a_usable_bag_says_why(bags, tmp_path):
    take = bagmaker.Take(bags.parent, "lonely")
    take.run(6)
    lonely = take.writer.close(bagmaker.labels(steps=6, contract_hash="0" * 16))
    with pytest.raises(AloeError, match=r"no usable bag.*contract"):
        train(request(lonely, tmp_path))
    with pytest.raises(AloeError, match="no such folder"):
        train(request(tmp_path / "nowhere", tmp_path))


def test_bags_without_a_label_alone_are_named_with_their_reason(tmp_path, bags):
    take = bagmaker.Take(tmp_path, "unlabelled")
    take.run(6, source=int(Source.HUMAN))
    unlabelled = take.writer.close(bagmaker.labels(steps=6, outcome=Outcome.NONE))
    with pytest.raises(AloeError, match=r"no usable bag; the first of 1 set aside: .*unlabelled") as caught:
        train(request(unlabelled, tmp_path))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_contract_is_refused(bags, tmp_path):
    train(request(bags, tmp_path))
    other = tmp_path / "other.yaml"
    other.write_text(Path(CONTRACT).read_text().replace("execute: 10", "execute: 5"))
    with pytest.raises(AloeError, match="contract") as caught:
        train(replace(request(bags, tmp_path, init="v0001-bc"), contract=str(other)))
    assert "\n" not in str(caught.value)


def test_failed_episodes_alone_cannot_be_cloned(bags, tmp_path):
    take = bagmaker.Take(tmp_path, "failed")
    take.run(6, source=int(Source.HUMAN))
    failed = take.writer.close(bagmaker.labels(steps=6, outcome=Outcome.FAILURE))
    with pytest.raises(AloeError, match="no successful demonstration"):
        train(request(failed, tmp_path))


def test_child_process_protocol_is_one_json_object_a_line(bags, tmp_path, capsys):
    file = tmp_path / "request.json"
    file.write_text(json.dumps(vars(request(bags, tmp_path))))
    assert main(["--request", str(file)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["result"]["version"] == "v0001-bc"
    assert any(line.get("phase") == "cloning" and line["steps_total"] == 2 for line in lines)
    file.write_text(json.dumps(vars(request(bags, tmp_path, method="allo"))))
    assert main(["--request", str(file)]) == 2
    assert "expected one of" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_a_checkpoint_is_pushed_to_a_url_too_and_kept_if_that_fails(bags, tmp_path):
    url = f"file://{tmp_path}/store"
    result = train(request(bags, tmp_path, publish=url))
    assert remote_latest(url) == result.version
    verify_checkpoint(tmp_path / "store" / result.version, expect_sha256=result.sha256)
    with pytest.raises(AloeError, match=r"trained, but not published: .* Try again with ./aloe checkpoint publish"):
        train(request(bags, tmp_path, publish="file:///proc/store"))
    kept = latest(tmp_path / "checkpoints")
    assert kept is not None and kept.name != result.version

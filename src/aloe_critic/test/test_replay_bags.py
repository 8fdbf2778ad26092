"""Folders and URLs of bags: what is used, what is set aside, what is read again."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
import torch

from aloe_core.contract import load_contract
from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.replay import Replay, ReplayStore, load_bags
from aloe_critic.replay import bags as bags_module
from aloe_critic.replay.bags import find_bags
from aloe_critic.trainer import TrainRequest, train

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "src" / "aloe_core" / "test"))
import bagmaker

CONTRACT = load_contract(ROOT / "config" / "robots" / "aloha_sim.yaml")


def picture(camera: int, frame: int, size: int = 96) -> bytes:
    image = np.full((size, size, 3), 60 * camera + 7 * frame, np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def record(folder: Path, name: str, steps: int = 12, jpeg=picture, **labels) -> Path:
    """Write a demonstration of 12 steps and 3 frames a camera."""
    folder.mkdir(exist_ok=True)
    original = bagmaker.jpeg
    bagmaker.jpeg = jpeg
    try:
        take = bagmaker.Take(folder, name)
        take.run(steps, source=int(Source.HUMAN))
    finally:
        bagmaker.jpeg = original
    return take.writer.close(bagmaker.labels(steps=steps, **labels))


@pytest.fixture
def reads(monkeypatch):
    """Names of the bags that are read."""
    seen = []
    read = bags_module.read_episode

    def watched(directory, contract):
        seen.append(Path(directory).name)
        return read(directory, contract)

    monkeypatch.setattr(bags_module, "read_episode", watched)
    return seen


def replay_of(folders, store=None):
    replay = Replay(CONTRACT, 5, 64)
    return replay, load_bags(replay, [str(f) for f in folders], CONTRACT, store=store)


def test_only_new_and_changed_bags_are_read_and_reasons_are_remembered(tmp_path, reads):
    bags = tmp_path / "bags"
    record(bags, "a")
    record(bags, "b", outcome=Outcome.FAILURE)
    record(bags, "other_robot", contract_hash="0" * 16)
    record(bags, "unlabelled", outcome=Outcome.NONE)
    record(bags, "small_frames", jpeg=lambda camera, frame: picture(camera, frame, 48))
    record(bags, "no_jpeg", jpeg=lambda camera, frame: b"\xff\xd8 nothing of the kind")
    damaged = next(record(bags, "damaged").glob("*.mcap"))
    damaged.write_bytes(damaged.read_bytes()[:-200])
    (bags / "foreign").mkdir()
    (bags / "foreign" / "metadata.yaml").write_text("nothing: of ours\n")
    (bags / "notes.txt").touch()
    shutil.copytree(bags / "a", bags / "torn.partial")

    reasons = {
        "other_robot": "contract_hash",
        "unlabelled": "unlabelled",
        "small_frames": "48x48: expected 96x96",
        "no_jpeg": "not a JPEG",
        "damaged": "damaged",
        "foreign": "not the metadata of a bag",
    }
    for attempt in range(2):
        store = ReplayStore(tmp_path / "store", CONTRACT)
        replay, set_aside = replay_of([bags], store)
        assert [Path(str(ep.info["path"])).name for ep in replay.episodes] == ["a", "b"]
        assert {Path(name).name for name in set_aside} == set(reasons)
        for name, reason in set_aside.items():
            assert reasons[Path(name).name] in reason and "\n" not in reason
        assert len(reads) == (8 if attempt == 0 else 0)
        reads.clear()
    _, in_memory = replay_of([bags])
    assert in_memory == set_aside  # and for the same reasons
    reads.clear()

    shutil.rmtree(bags / "damaged")
    record(bags, "damaged")
    record(bags, "c")
    (bags / "a" / "scores.csv").write_text("beside the bag\n")
    replay, set_aside = replay_of([bags], ReplayStore(tmp_path / "store", CONTRACT))
    assert reads == ["c", "damaged"]
    assert [Path(str(ep.info["path"])).name for ep in replay.episodes] == ["a", "b", "c", "damaged"]
    assert "damaged" not in {Path(name).name for name in set_aside}

    shutil.rmtree(bags / "b")
    os.utime(next((bags / "a").glob("*.mcap")))
    reads.clear()
    store = ReplayStore(tmp_path / "store", CONTRACT)
    replay, _ = replay_of([bags], store)
    assert reads == ["a"] and len(replay.episodes) == 3
    assert store.verify() == []


def test_a_bag_that_breaks_later_no_longer_counts(tmp_path):
    bags = tmp_path / "bags"
    record(bags, "a")
    file = next(record(bags, "b").glob("*.mcap"))
    assert len(replay_of([bags], ReplayStore(tmp_path / "store", CONTRACT))[0].episodes) == 2
    file.write_bytes(file.read_bytes()[:-100])
    replay, set_aside = replay_of([bags], ReplayStore(tmp_path / "store", CONTRACT))
    assert len(replay.episodes) == 1 and "damaged" in set_aside[str(bags / "b")]


def test_a_store_gives_only_the_bags_that_are_asked_for_in_their_order(tmp_path, reads):
    record(tmp_path / "one", "x", instruction="first")
    record(tmp_path / "two", "a", instruction="second")
    store = ReplayStore(tmp_path / "store", CONTRACT)
    both, _ = replay_of([tmp_path / "one", tmp_path / "two", tmp_path / "one" / "x"], store)
    assert [ep.instruction for ep in both.episodes] == ["first", "second"]
    other, _ = replay_of([tmp_path / "two"], store)
    assert [ep.instruction for ep in other.episodes] == ["second"]
    swapped, _ = replay_of([tmp_path / "two", tmp_path / "one"], store)
    assert [ep.instruction for ep in swapped.episodes] == ["second", "first"]
    assert reads == ["x", "a"]


def test_urls_are_read_once_and_named_by_their_url(tmp_path, reads):
    record(tmp_path / "bags", "a")
    record(tmp_path / "bags", "other_robot", contract_hash="0" * 16)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "bags"), "/remote/bags", recursive=True)
    try:
        local, _ = replay_of([tmp_path / "bags"])
        reads.clear()
        for expected in (2, 0):
            store = ReplayStore(tmp_path / "store", CONTRACT)
            replay, set_aside = replay_of(["memory://remote/bags"], store)
            assert len(reads) == expected
            reads.clear()
        (reason,) = set_aside.values()
        assert list(set_aside) == ["memory:///remote/bags/other_robot"]
        assert reason.startswith("memory:///remote/bags/other_robot: contract_hash")
        rows = torch.arange(local.rows)
        assert torch.equal(replay.pixels(rows), local.pixels(rows)) and torch.equal(replay.state(), local.state())
        in_memory, _ = replay_of(["memory://remote/bags/a"])
        assert in_memory.rows == local.rows
        memory.rm("/remote/bags/a", recursive=True)
        record(tmp_path / "new", "a", steps=17)
        memory.put(str(tmp_path / "new" / "a"), "/remote/bags/a", recursive=True)
        changed, _ = replay_of(["memory://remote/bags"], ReplayStore(tmp_path / "store", CONTRACT))
        assert changed.episodes[0].steps == 17
        with pytest.raises(AloeError, match="no such folder"):
            replay_of(["memory://remote/nothing"])
    finally:
        memory.rm("/remote", recursive=True)


def test_file_urls_are_the_local_files(tmp_path):
    record(tmp_path / "bags", "a")
    (url,), (path,) = find_bags([f"file://{tmp_path}/bags"]), find_bags([tmp_path / "bags"])
    assert url == path and url.remote is None


def test_an_archive_is_a_folder_of_bags_too(tmp_path):
    record(tmp_path / "bags", "a")
    shutil.make_archive(str(tmp_path / "bags"), "zip", tmp_path, "bags")
    replay, _ = replay_of([f"zip://bags::file://{tmp_path}/bags.zip"])
    assert replay.episodes[0].steps == 12


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("nowhere", "no such folder of bags"),
        ("empty", "no usable bag"),
        ("carrier-pigeon://coop/bags", "cannot be opened"),
        ("memory://", "no usable bag"),
    ],
)
def test_unknown_and_empty_folders_are_one_sentence(tmp_path, where, words):
    (tmp_path / "empty").mkdir()
    folder = where if "://" in where else str(tmp_path / where)
    for store in (None, ReplayStore(tmp_path / "store", CONTRACT)):
        with pytest.raises(AloeError, match=words) as caught:
            replay_of([folder], store)
        assert "\n" not in str(caught.value) and where in str(caught.value)


def test_a_bag_that_cannot_be_fetched_is_tried_again(tmp_path, monkeypatch):
    record(tmp_path / "bags", "a")
    record(tmp_path / "bags", "b")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "bags"), "/flaky", recursive=True)
    get_file = type(memory).get_file
    try:

        def broken(self, path, *arguments, **keywords):
            if "/b/" in path:
                raise OSError("the network is down")
            return get_file(self, path, *arguments, **keywords)

        monkeypatch.setattr(type(memory), "get_file", broken)
        replay, set_aside = replay_of(["memory://flaky"], ReplayStore(tmp_path / "store", CONTRACT))
        assert len(replay.episodes) == 1 and "network is down" in set_aside["memory:///flaky/b"]
        monkeypatch.undo()
        replay, set_aside = replay_of(["memory://flaky"], ReplayStore(tmp_path / "store", CONTRACT))
        assert len(replay.episodes) == 2 and set_aside == {}
    finally:
        memory.rm("/flaky", recursive=True)


def test_training_from_a_store_is_training_from_memory(tmp_path):
    for number in range(3):
        record(tmp_path / "bags", f"take{number}")
    tiny = {"threads": 1, "width_head": 16, "keypoints": 4, "bc_batch": 4, "bc_steps": 2, "bc_head_steps": 2}
    results = [
        train(
            TrainRequest(
                [str(tmp_path / "bags")],
                str(tmp_path / f"checkpoints{i}"),
                str(ROOT / "config" / "robots" / "aloha_sim.yaml"),
                method="bc",
                overrides=tiny,
                replay_dir=store,
            )
        )
        for i, store in enumerate(["", str(tmp_path / "store"), str(tmp_path / "store")])
    ]
    assert results[0].metrics == results[1].metrics == results[2].metrics
    assert (tmp_path / "store" / "journal.jsonl").is_file()


@pytest.mark.parametrize("kept", [False, True])
def test_takes_that_failed_their_quality_check_are_left_out_unless_asked_for(tmp_path, reads, kept):
    bags = tmp_path / "bags"
    record(bags, "good", quality="passed")
    record(bags, "unchecked")
    record(bags, "gaps", quality="cameras/top: a gap of 0.4 s")
    store = ReplayStore(tmp_path / "store", CONTRACT) if kept else None
    replay, aside = replay_of([bags], store)
    assert len(replay.episodes) == 2
    reason = "the take failed its quality check: cameras/top: a gap of 0.4 s; --set failed_takes=true uses it."
    assert aside == {str(bags / "gaps"): reason}
    seen = len(reads)
    everything = Replay(CONTRACT, 5, 64)
    assert load_bags(everything, [str(bags)], CONTRACT, store=store, failed_takes=True) == {}
    assert len(everything.episodes) == 3
    assert len(reads) == (seen if kept else seen + 3), "a store holds what was left out"


def test_a_discarded_take_that_a_store_has_read_is_not_learned_from(tmp_path):
    bags = tmp_path / "bags"
    record(bags, "a")
    discarded = record(bags, "b")
    store = ReplayStore(tmp_path / "store", CONTRACT)
    assert len(replay_of([bags], store)[0].episodes) == 2
    (bags / "trash").mkdir()
    discarded.rename(bags / "trash" / discarded.name)
    replay, aside = replay_of([bags], store)
    assert len(replay.episodes) == 1 and aside == {}
    assert (replay.windows(gamma=0.9, max_length=1, failure_cost=1).episode == 0).all()

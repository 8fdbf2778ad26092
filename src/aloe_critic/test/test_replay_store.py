"""The replay store gives back what was put in, whatever moment its writer dies at."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Frames, Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.replay import Replay, ReplayStore
from aloe_critic.replay import store as store_module
from aloe_critic.replay import windows as windows_module
from aloe_critic.replay.store import BLOCKS, FRAMES, JOURNAL, FrameEncoder
from synthetic import reach_episode, small_contract

CONTRACT = small_contract(horizon=7, execute=3)
GREYS = [cv2.imencode(".jpg", np.full((32, 32, 3), 6 * i, np.uint8))[1].tobytes() for i in range(40)]
ARRAYS = ("stamps", "state", "requested", "executed", "source", "chunk", "chunk_index")
SCORES = {"gamma": 0.9, "max_length": 20.0, "failure_cost": 9.0}


@st.composite
def episodes(draw: st.DrawFn) -> EpisodeData:
    """Runs of sources with gaps, irregular frames, every kind of ending."""
    runs = draw(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(1, 9)), min_size=1, max_size=5))
    source = np.concatenate([np.full(n, kind, np.uint8) for kind, n in runs])
    steps = len(source)
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    stamps = 10**9 + np.arange(steps + 1) * 20_000_000
    frames = np.sort(rng.choice(stamps[-1] - 10**9, rng.integers(1, 12), replace=False) + 10**9 - 30_000_000)
    outcome = draw(st.sampled_from(list(Outcome)))
    return EpisodeData(
        episode_id=f"é-{seed}",
        task=draw(st.sampled_from(["reach", "sort"])),
        instruction=draw(st.sampled_from(["touch the dot", "do nothing"])),
        seed=seed,
        outcome=outcome,
        end=draw(st.sampled_from(["terminated", "truncated", "aborted"])),
        contract_hash=CONTRACT.hash,
        dt=CONTRACT.dt,
        stamps=stamps,
        state=rng.standard_normal((steps + 1, 2)).astype(np.float32),
        requested=np.where(rng.random((steps, 2)) < 0.3, np.nan, rng.random((steps, 2))).astype(np.float32),
        executed=rng.standard_normal((steps, 2)).astype(np.float32),
        source=source,
        chunk=np.where(source == 1, rng.integers(0, 3, steps), -1).astype(np.int32),
        chunk_index=rng.integers(-1, 5, steps).astype(np.int32),
        frames={"top": Frames(frames, tuple(GREYS[i] for i in rng.integers(0, 40, len(frames))))},
        chunk_ids=("a", "b", "c"),
        policy_versions=("v1", "v1", "v2"),
        breaks=tuple(sorted(draw(st.sets(st.integers(0, steps - 1), max_size=2)))),
        group_source=draw(st.sampled_from([None, np.stack([source, source[::-1]], 1)])),
    )


def alike(ep: EpisodeData, a: int, b: int) -> bool:
    groups = ep.group_source
    return ep.source[a] == ep.source[b] and (groups is None or (groups[a] == groups[b]).all())


def brute_force(eps: list[EpisodeData], stride: int):
    """Windows one step at a time: (episode, start step, steps scored, steps planned, reward, discount)."""
    for number, ep in enumerate(eps):
        t = 0
        while t < ep.steps:
            end = t + 1
            while end < ep.steps and alike(ep, t, end) and not {end - 1, end} & set(ep.breaks):
                end += 1
            labelled = ep.end == "terminated" and ep.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
            for start in range(t, end, stride) if t not in ep.breaks else ():
                length = min(3, end - start)
                reward = 0.0
                for k in range(length):
                    last = labelled and start + k == ep.steps - 1
                    cost = (0.0 if ep.outcome == Outcome.SUCCESS else 9.0) if last else 1.0
                    reward -= 0.9**k * cost / 20.0
                terminal = labelled and start + length == ep.steps
                yield number, start, length, min(7, end - start), reward, 0.0 if terminal else 0.9**length
            t = end


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(eps=st.lists(episodes(), min_size=1, max_size=4), stride=st.sampled_from([1, 2, 5]), lazy=st.booleans())
def test_windows_of_the_store_are_those_of_a_step_by_step_reference(tmp_path_factory, monkeypatch, eps, stride, lazy):
    monkeypatch.setattr(windows_module, "DENSE_BYTES", 0 if lazy else 1 << 20)
    monkeypatch.setattr("aloe_critic.replay.view.DENSE_BYTES", 0 if lazy else 1 << 20)
    folder = tmp_path_factory.mktemp("store")
    fill(folder, eps)
    store = ReplayStore(folder, CONTRACT)
    assert store.verify() == []
    stored, memory = (Replay(CONTRACT, stride, 64, cache_bytes=5 * 32 * 32 * 3) for _ in range(2))
    for entry, ep in zip(store.entries.values(), eps, strict=True):
        stored.add(store.episode(entry), checked=True)
        memory.add(ep)
    expected = list(brute_force(eps, stride))
    if not expected:
        return
    for replay in (stored, memory):
        w = replay.windows(**SCORES)
        columns = (w.episode, w.length, w.plan_length, w.source)
        assert [c.tolist() for c in columns] == [
            [e[0] for e in expected],
            [e[2] for e in expected],
            [e[3] for e in expected],
            [int(eps[e[0]].source[e[1]]) for e in expected],
        ]
        np.testing.assert_allclose(w.reward, [e[4] for e in expected], rtol=1e-5)
        np.testing.assert_allclose(w.discount, [e[5] for e in expected], rtol=1e-6)
        state, text = replay.state(), replay.text()
        chunks, head = w.chunk[torch.arange(len(w))], w.chunk[:, [0, 6]]
        for i, (number, start, length, planned, *_) in enumerate(expected):
            ep = eps[number]
            for row, step in ((w.obs[i], start), (w.next_obs[i], start + length)):
                np.testing.assert_array_equal(state[row], ep.state[step])
                frame = max(0, int((ep.frames["top"].stamps <= ep.stamps[step]).sum()) - 1)
                image = cv2.imdecode(np.frombuffer(ep.frames["top"].jpegs[frame], np.uint8), cv2.IMREAD_COLOR)
                pixels = replay.pixels(row[None])
                assert pixels.shape == (1, 1, 3, 32, 32)
                np.testing.assert_array_equal(pixels[0, 0].permute(1, 2, 0), image[:, :, ::-1])
            rows = [ep.executed[min(start + k, start + planned - 1)] for k in range(7)]
            np.testing.assert_array_equal(chunks[i], np.stack(rows))
            np.testing.assert_array_equal(head[i], np.stack(rows)[[0, 6]])
        batch = replay.batch(w.obs)
        torch.testing.assert_close(batch.state, state[w.obs], rtol=0, atol=0)
        assert torch.equal(batch.text, text[w.obs])


def fill(folder, eps: list[EpisodeData], contract: RobotContract = CONTRACT, encoder=None) -> ReplayStore:
    store = ReplayStore(folder, contract, encoder)
    with store.appending():
        for number, ep in enumerate(eps):
            store.append(f"bag-{number}", "1", ep)
    return store


def same(a: EpisodeData, b: EpisodeData) -> bool:
    words = ("episode_id", "task", "instruction", "seed", "outcome", "end", "dt", "breaks", "steps", "contract_hash")
    groups = [ep.group_source if ep.group_source is not None else np.empty(0) for ep in (a, b)]
    return (
        np.array_equal(*groups)
        and all(getattr(a, name) == getattr(b, name) for name in words)
        and all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in ARRAYS)
        and all(getattr(a, name).dtype == getattr(b, name).dtype for name in ARRAYS)
        and list(a.chunk_ids) == list(b.chunk_ids)
        and list(a.policy_versions) == list(b.policy_versions)
        and all(list(a.frames[c].jpegs) == list(b.frames[c].jpegs) for c in b.frames)
        and all(np.array_equal(a.frames[c].stamps, b.frames[c].stamps) for c in b.frames)
    )


@settings(max_examples=20, deadline=None)
@given(ep=episodes())
def test_an_episode_comes_back_as_it_was(tmp_path_factory, ep):
    folder = tmp_path_factory.mktemp("store")
    fill(folder, [ep])
    (entry,) = ReplayStore(folder, CONTRACT).entries.values()
    assert same(ReplayStore(folder, CONTRACT).episode(entry), ep)


SEEDS = range(24)
REACH = small_contract()


def index_all(folder) -> int:
    """Append what the store lacks, each episode committed at once; return how many that were."""
    store = ReplayStore(folder, REACH)
    new = [seed for seed in SEEDS if store.known(f"bag-{seed}", "1") is None]
    with store.appending():
        for seed in new:
            store.append(f"bag-{seed}", "1", reach_episode(REACH, seed))
    return len(new)


def check_committed(folder) -> int:
    store = ReplayStore(folder, REACH)
    assert store.verify() == []
    for bag, entry in store.entries.items():
        assert same(store.episode(entry), reach_episode(REACH, int(bag[4:])))
    assert list(store.entries) == [f"bag-{seed}" for seed in range(len(store.entries))]
    return len(store.entries)


def in_child(work) -> int:
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child


def test_a_writer_killed_at_random_moments_loses_nothing_committed_and_is_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "COMMIT_SECONDS", 0.0)
    start = time.monotonic()
    index_all(tmp_path / "whole")
    whole = time.monotonic() - start
    rng = random.Random(0)
    torn = progress = 0
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        before = 0
        while True:
            child = in_child(lambda folder=folder: index_all(folder))
            time.sleep(rng.uniform(0, 0.7 * whole))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            after = check_committed(folder)
            assert after >= before
            torn += 0 < after < len(SEEDS)
            progress += after > before
            if after == len(SEEDS):
                break
            before = after
            if rng.random() < 0.3:
                assert index_all(folder) == len(SEEDS) - before
                assert check_committed(folder) == len(SEEDS)
                break
        assert (folder / BLOCKS).read_bytes() == (tmp_path / "whole" / BLOCKS).read_bytes()
        assert (folder / FRAMES).read_bytes() == (tmp_path / "whole" / FRAMES).read_bytes()
    assert torn > 3 and progress > 6  # or the moments were badly chosen


def test_a_writer_killed_between_any_two_system_calls_leaves_whole_episodes(tmp_path, monkeypatch):
    """Every n-th fsync, write and rename in turn, the write of a torn half record included."""
    monkeypatch.setattr(store_module, "COMMIT_SECONDS", 0.0)
    write = store_module._write
    seen = set()
    for moment in range(200):
        folder = tmp_path / str(moment)
        left = moment

        def deadly(call):
            def run(*arguments):
                nonlocal left
                if left == 0:
                    if call is write and len(arguments[1]) > 1:
                        os.write(arguments[0].fileno(), arguments[1][: len(arguments[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return call(*arguments)

            return run

        def work(folder=folder, deadly=deadly):
            store_module._write = deadly(write)
            store_module.os.fsync = deadly(os.fsync)
            store_module.sync_directory = deadly(store_module.sync_directory)
            store = ReplayStore(folder, REACH)
            with store.appending():
                for seed in range(3):
                    store.append(f"bag-{seed}", "1", reach_episode(REACH, seed))

        _, status = os.waitpid(in_child(work), 0)
        seen.add(check_committed(folder))
        if not os.WIFSIGNALED(status):
            break
        if moment % 5 == 0:
            found = check_committed(folder)
            assert index_all(folder) == len(SEEDS) - found
            assert check_committed(folder) == len(SEEDS)
    assert moment > 12 and seen == {0, 1, 2, 3}


def test_data_are_on_disk_before_the_record_that_names_them(tmp_path, monkeypatch):
    done = []

    def name(descriptor):
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    fsync, write = os.fsync, store_module._write
    store = fill(tmp_path, [reach_episode(REACH, 0)], REACH)
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(("fsync", name(fd))), fsync(fd)))
    monkeypatch.setattr(
        store_module, "_write", lambda file, data: (done.append(("write", name(file.fileno()))), write(file, data))
    )
    with store.appending():
        done.clear()
        store.append("bag-1", "1", reach_episode(REACH, 1))
    assert done == [
        *(("write", BLOCKS), ("write", FRAMES), ("fsync", BLOCKS), ("fsync", FRAMES)),
        *(("write", JOURNAL), ("fsync", JOURNAL)),
    ]


def test_a_journal_cut_or_changed_anywhere_keeps_what_stands_before(tmp_path):
    fill(tmp_path, [reach_episode(REACH, seed) for seed in range(3)], REACH)
    journal = (tmp_path / JOURNAL).read_bytes()
    ends = [i + 1 for i, byte in enumerate(journal) if byte == ord("\n")]
    for cut in [*range(0, len(journal), 37), *ends]:
        (tmp_path / JOURNAL).write_bytes(journal[:cut])
        assert len(ReplayStore(tmp_path, REACH).entries) == sum(end <= cut for end in ends)
    for at in range(0, len(journal) - 1, 29):
        changed = bytearray(journal)
        changed[at] ^= 1
        (tmp_path / JOURNAL).write_bytes(changed)
        assert len(ReplayStore(tmp_path, REACH).entries) == sum(end <= at for end in ends)
    (tmp_path / JOURNAL).write_bytes(journal)
    with (tmp_path / BLOCKS).open("r+b") as stream:  # a disk that lost the last data though the record arrived
        stream.truncate(ReplayStore(tmp_path, REACH).entries["bag-2"].at + 8)
    assert list(ReplayStore(tmp_path, REACH).entries) == ["bag-0", "bag-1"]


def test_changed_data_are_found_by_verify_and_cut_frames_are_an_error(tmp_path):
    store = fill(tmp_path, [reach_episode(REACH, seed) for seed in range(2)], REACH)
    entry = store.entries["bag-1"]
    with (tmp_path / BLOCKS).open("r+b") as stream:
        stream.seek(entry.at + 50)
        stream.write(b"\xff\xfe")
    (problem,) = ReplayStore(tmp_path, REACH).verify()
    assert "bag-1" in problem and "\n" not in problem
    os.truncate(tmp_path / FRAMES, entry.payload_at + 10)
    with pytest.raises(AloeError, match="ends at byte"):
        list(store.episode(entry).frames["top"].jpegs)


def test_one_writer_at_a_time_and_readers_beside_it(tmp_path):
    store, other = fill(tmp_path, [reach_episode(REACH, 0)], REACH), ReplayStore(tmp_path, REACH)
    with store.appending():
        store.append("bag-1", "1", reach_episode(REACH, 1))
        with pytest.raises(AloeError, match="another process is appending"), other.appending():
            pass
        other.reload()
        assert list(other.entries) == ["bag-0"]
        assert same(other.episode(other.entries["bag-0"]), reach_episode(REACH, 0))
        store.commit()
        other.reload()
        assert list(other.entries) == ["bag-0", "bag-1"]
    with other.appending():
        other.append("bag-2", "1", reach_episode(REACH, 2))
    store.reload()
    assert same(store.episode(store.entries["bag-2"]), reach_episode(REACH, 2))


def test_a_store_of_another_contract_and_a_folder_of_other_things_are_refused(tmp_path):
    fill(tmp_path / "store", [reach_episode(REACH, 0)], REACH)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "file").touch()
    for folder, words in (("store", "contract_hash = .*: expected"), ("photos", "cat.jpg"), ("file", "cannot be used")):
        with pytest.raises(AloeError, match=words) as caught:
            ReplayStore(tmp_path / folder, CONTRACT)
        assert "\n" not in str(caught.value)
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    with pytest.raises(AloeError, match=r"within appending\(\)"):
        ReplayStore(tmp_path / "store", REACH).append("bag-1", "1", reach_episode(REACH, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ep: replace(ep, contract_hash="0" * 16), "contract_hash"),
        (lambda ep: replace(ep, frames={}), "no frames of camera 'top'"),
        (lambda ep: replace(ep, frames={"top": Frames(np.zeros(0, np.int64), ())}), "no frames of camera 'top'"),
        (lambda ep: replace(ep, frames={"top": Frames(ep.frames["top"].stamps, (b"no",) * 8)}), "not a JPEG"),
        (lambda ep: replace(ep, executed=ep.executed[:, :1]), "shape"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_trace(tmp_path, change, words):
    store = fill(tmp_path, [reach_episode(REACH, 0)], REACH)
    size = (tmp_path / BLOCKS).stat().st_size
    with store.appending(), pytest.raises(AloeError, match=words):
        store.append("bad", "1", change(reach_episode(REACH, 1)))
    assert (tmp_path / BLOCKS).stat().st_size == size and list(store.entries) == ["bag-0"]


def test_frozen_features_take_the_place_of_frames(tmp_path):
    def mean_colour(camera: str, images: np.ndarray) -> np.ndarray:
        assert camera == "top"
        return images.reshape(len(images), -1, 3).mean(1)

    ep = reach_episode(REACH, 3)
    ep = replace(ep, frames={"top": Frames(ep.frames["top"].stamps, tuple(GREYS[i] for i in range(5, 14)))})
    store = fill(tmp_path, [ep], REACH, FrameEncoder("mean", 3, mean_colour))
    replay = Replay(REACH, 5, 64, feature_dim=store.feature_dim)
    replay.add(store.episode(store.entries["bag-0"]), checked=True)
    features = replay.features(torch.arange(replay.rows))
    assert features.shape == (replay.rows, 1, 3)
    frame = replay.frame_index()[:, 0]
    np.testing.assert_allclose(features[:, 0, 1], 6.0 * (5 + frame.numpy()), atol=1)
    with pytest.raises(AloeError, match="features in place of images"):
        replay.pixels(torch.arange(2))
    with pytest.raises(AloeError, match="frames = 'features mean 3'"):
        ReplayStore(tmp_path, REACH)


def test_source_is_stored_as_the_enumeration_numbers_it(tmp_path):
    store = fill(tmp_path, [reach_episode(REACH, 0, source=Source.POLICY)], REACH)
    ep = store.episode(store.entries["bag-0"])
    assert set(ep.source) == {int(Source.POLICY)} and ep.policy_versions[0] == "v0"

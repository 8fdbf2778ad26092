"""Checkpoints from a real HTTP server process that cuts, dies, lies and comes back."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from aloe_core.checkpoint import list_checkpoints, manifest_sha256, verify_checkpoint
from aloe_core.errors import AloeError
from aloe_policy import checkpoint_cache
from aloe_policy.checkpoint_cache import PARTIAL, CheckpointCache
from aloe_policy.urls import Unreachable, is_url, open_remote, remote_latest, shown
from serving import Server, serving
from tiny_policy import tiny_contract, write_tiny

MODEL = "model.safetensors"
WEIGHTS = os.urandom(3_000_000)


@pytest.fixture
def store(tmp_path):
    """A folder with one checkpoint, v1, of three blocks."""
    root = tmp_path / "store"
    write_tiny(root, "v1", weights=WEIGHTS)
    return root


@pytest.fixture
def cache(tmp_path):
    return CheckpointCache(tmp_path / "cache", tiny_contract().hash)


def parts(cache):
    return {path.name: path.stat().st_size for path in cache.root.glob(f"{PARTIAL}*/*")}


def test_a_checkpoint_is_fetched_once_and_is_the_one_that_was_published(store, cache):
    sha256 = manifest_sha256(store / "v1")
    with serving(store) as server:
        copy = cache.fetch(f"{server.url}/v1", sha256)
        assert copy == cache.root / f"v1.{sha256[:12]}"
        verify_checkpoint(copy, contract_hash=tiny_contract().hash, expect_sha256=sha256)
        assert cache.fetch(f"{server.url}/v1/", sha256) == copy
        asked = [path for path, _, _ in server.stop()]
    assert asked.count(f"/v1/{MODEL}") == 1 and asked.count("/v1/manifest.json") == 2
    assert parts(cache) == {} and cache.progress == ""


def test_a_cut_transfer_is_kept_and_goes_on_where_it_stopped(store, cache):
    with serving(store, "--cut", f"{MODEL}=1300000") as server:
        with pytest.raises(Unreachable, match="went away 1700000 bytes before the end"):
            cache.fetch(f"{server.url}/v1")
        assert parts(cache)[MODEL] == 1_300_000
        assert list_checkpoints(cache.root) == [], "half a checkpoint is none"
        copy = cache.fetch(f"{server.url}/v1")
        assert (copy / MODEL).read_bytes() == WEIGHTS
        asked = [(start, status) for path, start, status in server.stop() if path.endswith(MODEL)]
    assert asked == [(0, 200), (1_300_000, 206)]


def test_a_server_that_dies_and_comes_back_is_asked_for_the_rest_only(store, cache):
    first = Server(store, "--die", f"{MODEL}=2000000")
    with pytest.raises(Unreachable):
        cache.fetch(f"{first.url}/v1")
    first.stop()
    with pytest.raises(Unreachable, match=r"cannot be reached .*refused"):
        cache.fetch(f"{first.url}/v1")
    with serving(store, "--port", first.port) as second:
        assert (cache.fetch(f"{second.url}/v1") / MODEL).read_bytes() == WEIGHTS
        assert (f"/v1/{MODEL}", 2_000_000, 206) in second.stop()


def test_a_server_without_ranges_sends_it_all_again(store, cache):
    with serving(store, "--cut", f"{MODEL}=1300000", "--no-range") as server:
        with pytest.raises(Unreachable):
            cache.fetch(f"{server.url}/v1")
        assert (cache.fetch(f"{server.url}/v1") / MODEL).read_bytes() == WEIGHTS


def test_what_was_kept_and_is_wrong_is_fetched_again(store, cache):
    with serving(store, "--cut", f"{MODEL}=1300000") as server:
        with pytest.raises(Unreachable):
            cache.fetch(f"{server.url}/v1")
        kept = next(cache.root.glob(f"{PARTIAL}*/{MODEL}"))
        kept.write_bytes(b"x" * 1_300_000)
        assert (cache.fetch(f"{server.url}/v1") / MODEL).read_bytes() == WEIGHTS


def test_a_copy_that_the_disk_spoilt_is_fetched_again(store, cache):
    with serving(store) as server:
        copy = cache.fetch(f"{server.url}/v1")
        (copy / MODEL).write_bytes(WEIGHTS[:-1] + b"?")
        assert (cache.fetch(f"{server.url}/v1") / MODEL).read_bytes()[-1] == WEIGHTS[-1]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: (d / MODEL).write_bytes(WEIGHTS[:-1] + b"?"), "not what its manifest.json promises"),
        (lambda d: (d / MODEL).write_bytes(WEIGHTS + b"more"), "not what its manifest.json promises"),
        (lambda d: (d / MODEL).unlink(), "model.safetensors: HTTP 404"),
        (lambda d: (d / "manifest.json").unlink(), "manifest.json: HTTP 404"),
        (lambda d: (d / "manifest.json").write_text("half {"), "not valid JSON"),
        (lambda d: (d / "manifest.json").write_text('{"name": "of another program"}'), "not a checkpoint manifest"),
        (lambda d: (d / "manifest.json").write_bytes(b" " * 2_000_000), "more than 1048576 bytes"),
    ],
)
def test_what_the_server_cannot_make_good_is_refused_for_good(store, cache, spoil, says):
    spoil(store / "v1")
    with serving(store) as server, pytest.raises(AloeError, match=says) as refused:
        cache.fetch(f"{server.url}/v1")
    assert not isinstance(refused.value, Unreachable)
    assert list_checkpoints(cache.root) == []


def test_a_file_that_is_shorter_than_promised_may_still_be_uploaded(store, cache):
    (store / "v1" / MODEL).write_bytes(WEIGHTS[:100])
    with serving(store) as server, pytest.raises(Unreachable, match="stopped after 100 of 3000000 bytes"):
        cache.fetch(f"{server.url}/v1")


@pytest.mark.parametrize(("status", "kind"), [(403, AloeError), (503, Unreachable), (429, Unreachable)])
def test_a_refusal_is_told_from_a_server_in_trouble(store, cache, status, kind):
    with serving(store, "--status", status) as server, pytest.raises(AloeError, match=f"HTTP {status}") as refused:
        cache.fetch(f"{server.url}/v1")
    assert type(refused.value) is kind


def test_a_manifest_that_was_not_announced_costs_no_download(store, cache):
    with serving(store) as server:
        with pytest.raises(AloeError, match="not the one announced"):
            cache.fetch(f"{server.url}/v1", "0" * 64)
        assert [path for path, _, _ in server.stop()] == ["/v1/manifest.json"]


def test_a_checkpoint_of_another_robot_costs_no_download(store, cache):
    write_tiny(store, "v2", contract_hash="ffff")
    with serving(store) as server:
        with pytest.raises(AloeError, match="contract_hash = 'ffff'"):
            cache.fetch(f"{server.url}/v2")
        assert [path for path, _, _ in server.stop()] == ["/v2/manifest.json"]


def test_a_name_that_leads_out_of_the_folder_is_refused(store, cache):
    path = store / "v1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../out"] = manifest["files"][MODEL]
    path.write_text(json.dumps(manifest))
    with serving(store) as server, pytest.raises(AloeError, match="not a usable name"):
        cache.fetch(f"{server.url}/v1")


def test_a_disk_without_room_is_told_before_anything_is_fetched(store, cache, monkeypatch):
    monkeypatch.setattr(checkpoint_cache, "_RESERVE", shutil.disk_usage(store).total)
    with serving(store) as server:
        with pytest.raises(AloeError, match="MiB left on the disk of"):
            cache.fetch(f"{server.url}/v1")
        assert f"/v1/{MODEL}" not in [path for path, _, _ in server.stop()]


def test_a_download_that_nobody_wants_any_more_stops_between_blocks(store, cache):
    with serving(store) as server, pytest.raises(AloeError, match="given up at 1048576 of 3000000"):
        cache.fetch(f"{server.url}/v1", stopped=lambda: parts(cache).get(MODEL, 0) > 0)


def test_old_copies_go_and_those_in_use_stay(store, cache):
    for number in range(2, 6):
        write_tiny(store, f"v{number}")
    with serving(store) as server:
        copies = [cache.fetch(f"{server.url}/v{number}") for number in range(1, 6)]
    for age, copy in enumerate(reversed(copies)):
        os.utime(copy, (1e9 - age, 1e9 - age))
    (cache.root / "v0001-bc").mkdir()
    cache = CheckpointCache(cache.root, None, keep=2)
    cache.prune([copies[0]])
    left = sorted(p.name for p in cache.root.iterdir() if p.is_dir())
    assert left == ["v0001-bc", *sorted(copies[n].name for n in (0, 3, 4))], "what is no copy is not ours"


STEPS = ("fsync", "rename", "mkdir", "utime")


def fetch_killed_at(root, url, moment):
    """Fetch in a child that is killed before its `moment`-th step or after that block; return whether it was."""
    child = os.fork()
    if child == 0:
        left = moment

        def deadly(call):
            def run(*arguments, **keywords):
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return call(*arguments, **keywords)

            return run

        for name in STEPS:
            setattr(os, name, deadly(getattr(os, name)))
        CheckpointCache(root, None).fetch(url, stopped=deadly(lambda: False))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_robot_killed_at_any_moment_of_a_download_has_a_whole_checkpoint_or_none_and_goes_on(store, tmp_path):
    with serving(store) as server:
        for moment in range(100):
            root = tmp_path / f"killed{moment}"
            killed = fetch_killed_at(root, f"{server.url}/v1", moment)
            assert all(copy.problem is None for copy in (list_checkpoints(root) if root.exists() else []))
            cache = CheckpointCache(root, None)
            assert (cache.fetch(f"{server.url}/v1") / MODEL).read_bytes() == WEIGHTS
            assert len(list_checkpoints(root)) == 1 and parts(cache) == {}
            if not killed:
                break
        resumed = {start for path, start, _ in server.stop() if path.endswith(MODEL)}
    assert not killed and moment > 10
    assert {1 << 20, 2 << 20} <= resumed, "what had come is not asked for again"


def test_two_processes_do_not_write_the_same_copy(store, cache):
    cache.root.mkdir()
    with serving(store) as server, open(cache.root / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(AloeError, match="another process is downloading"):
            cache.fetch(f"{server.url}/v1", stopped=lambda: True)
        code = (
            "import sys; from pathlib import Path; from aloe_policy.checkpoint_cache import CheckpointCache; "
            "CheckpointCache(Path(sys.argv[1]), None).fetch(sys.argv[2]); print('fetched')"
        )
        other = subprocess.Popen([sys.executable, "-c", code, str(cache.root), f"{server.url}/v1"])
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1.0)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert other.wait(60) == 0
    assert len(list_checkpoints(cache.root)) == 1


def test_any_file_system_of_fsspec_serves_as_well(store, cache):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(f"{store}/v1", "/bucket/v1", recursive=True)
    try:
        assert (cache.fetch("memory://bucket/v1") / MODEL).read_bytes() == WEIGHTS
        with pytest.raises(AloeError, match="no such file"):
            cache.fetch("memory://bucket/v2")
    finally:
        memory.rm("/bucket", recursive=True)


def test_latest_is_read_from_a_url(store):
    with serving(store) as server:
        assert remote_latest(server.url) == "v1"
        assert remote_latest(f"{server.url}/v1") is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("carrier-pigeon://v1", r"cannot be opened .*ValueError"),
        ("http://127.0.0.1:port/v1", r"cannot be opened .*InvalidURL"),
    ],
)
def test_a_url_that_cannot_be_opened_is_one_sentence(cache, url, says):
    with pytest.raises(AloeError, match=says):
        cache.fetch(url)


def test_passwords_are_sent_and_neither_shown_nor_handed_on():
    request = open_remote("https://robot:s%3Acret@host:8443/v1?key=1")._request("https://host:8443/v1/manifest.json", 7)
    assert request.unredirected_hdrs == {"Authorization": "Basic cm9ib3Q6czpjcmV0"}
    assert request.headers == {"Range": "bytes=7-"}
    assert shown("https://robot:secret@host:8443/v1?key=1") == "https://host:8443/v1"
    assert shown("rtsp://admin:secret@[host/stream") == "rtsp://…", "not a URL, and still no password"


@pytest.mark.parametrize("uri", ["s3://b/v1", "https://h/v1", "zip://v1::s3://b/a.zip"])
def test_what_is_elsewhere_is_a_url(uri):
    assert is_url(uri) and not is_url("file:///v1") and not is_url("/v1")

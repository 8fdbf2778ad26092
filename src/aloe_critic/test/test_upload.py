"""Publishing to a URL: what a reader finds at any moment, and what is refused."""

import json
import os
import signal
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from aloe_core.checkpoint import manifest_sha256, verify_checkpoint, write_checkpoint
from aloe_core.errors import AloeError
from aloe_critic.upload import open_target, push
from aloe_policy.checkpoint_cache import CheckpointCache
from aloe_policy.urls import remote_latest


def write(root: Path, version: str, weights: bytes = b"w") -> Path:
    rest = {"norm": {}, "contract_hash": "c", "step": 1, "parent": "", "method": "bc", "metrics": {}}
    return write_checkpoint(root, version, {"model.safetensors": weights}, config={}, **rest)


@pytest.fixture
def url():
    memory = fsspec.filesystem("memory")
    yield "memory://bucket/checkpoints"
    if memory.exists("/bucket"):
        memory.rm("/bucket", recursive=True)


def test_what_is_pushed_is_fetched_and_latest_names_the_newest(tmp_path, url):
    first, second = write(tmp_path, "v1"), write(tmp_path, "v2")
    assert push(first, url) == f"{url}/v1"
    assert push(second, f"{url}/") == f"{url}/v2"
    assert remote_latest(url) == "v2"
    copy = CheckpointCache(tmp_path / "cache", "c").fetch(f"{url}/v1", manifest_sha256(first))
    verify_checkpoint(copy)


def test_pushed_again_it_is_left_alone_and_so_is_latest(tmp_path, url):
    first = write(tmp_path, "v1")
    push(first, url)
    push(write(tmp_path, "v2"), url)
    memory = fsspec.filesystem("memory")
    model = "/bucket/checkpoints/v1/model.safetensors"
    before = memory.info(model)["created"]
    push(first, url)
    assert (memory.info(model)["created"], remote_latest(url)) == (before, "v2")


def test_latest_and_manifest_come_last(tmp_path, url, monkeypatch):
    """A reader in between finds nothing, or all."""
    first = write(tmp_path, "v1")
    system = type(fsspec.filesystem("memory"))
    order = []
    for name in ("put_file", "pipe_file"):
        real = getattr(system, name)

        def noted(self, a, b, *rest, real=real, put=name == "put_file", **more):
            order.append(str(b if put else a).rsplit("/", 1)[-1])
            return real(self, a, b, *rest, **more)

        monkeypatch.setattr(system, name, noted)
    push(first, url)
    assert set(order[:-2]) == set(json.loads((first / "manifest.json").read_text())["files"])
    assert order[-2:] == ["manifest.json", "LATEST"]


def test_another_checkpoint_of_the_same_version_and_a_damaged_one_are_refused(tmp_path, url):
    push(write(tmp_path / "a", "v1"), url)
    with pytest.raises(AloeError, match="another checkpoint of this version"):
        push(write(tmp_path / "b", "v1", b"other"), url)
    damaged = write(tmp_path / "c", "v2")
    (damaged / "model.safetensors").write_bytes(b"?")
    with pytest.raises(AloeError, match="corrupt"):
        push(damaged, url)
    assert remote_latest(url) == "v1"


def push_killed_at(directory, url, moment):
    """Push in a child that is killed before its `moment`-th call, or half-way through a file; return whether it was."""
    child = os.fork()
    if child == 0:
        left = moment

        def die_if_due(half=None):
            nonlocal left
            if left == 0:
                if half is not None:
                    half()
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        def deadly(call, write_half):
            def run(self, a, b, *rest, **more):
                die_if_due()
                die_if_due(lambda: write_half(a, b))
                return call(self, a, b, *rest, **more)

            return run

        system = LocalFileSystem
        system.put_file = deadly(system.put_file, lambda a, b: Path(b).write_bytes(Path(a).read_bytes()[:5]))
        system.pipe_file = deadly(system.pipe_file, lambda a, b: Path(a).write_bytes(b[:5]))
        system.mv = deadly(system.mv, lambda a, b: None)
        push(directory, url)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_trainer_killed_at_any_moment_of_an_upload_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    first, second = write(tmp_path, "v1"), write(tmp_path, "v2")
    for moment in range(100):
        url = f"file://{tmp_path}/remote{moment}"
        push(first, url)
        killed = push_killed_at(second, url, moment)
        cache = CheckpointCache(tmp_path / f"cache{moment}", None)
        verify_checkpoint(cache.fetch(f"{url}/{remote_latest(url)}"))
        assert push(second, url) == f"{url}/v2"
        assert remote_latest(url) == "v2", "the second try finishes what the first one began"
        verify_checkpoint(cache.fetch(f"{url}/v2"))
        if not killed:
            break
    assert not killed and moment > 10


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/folder", "expected a URL"),
        ("https://user:word@host/checkpoints", "'https://host/checkpoints': HTTP only reads"),
        ("carrier-pigeon://loft", "cannot be opened"),
    ],
)
def test_where_nothing_can_be_written_is_told_before_training(target, says):
    with pytest.raises(AloeError, match=says):
        open_target(target)

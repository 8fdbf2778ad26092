import json
import os
import signal
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.checkpoint import (
    latest,
    list_checkpoints,
    manifest_sha256,
    promote,
    rollback,
    verify_checkpoint,
    write_checkpoint,
)
from aloe_core.errors import AloeError

CONTRACT = "0123456789abcdef"


def write(root, version="v1", parent="", step=1, files=None, **changes):
    arguments = {
        "config": {"width": 8},
        "norm": {"mean": np.zeros(2, np.float32)},
        "contract_hash": CONTRACT,
        "step": step,
        "parent": parent,
        "method": "bc",
        "metrics": {"loss": 0.5},
    }
    return write_checkpoint(root, version, files or {"model.safetensors": b"weights"}, **(arguments | changes))


def test_what_is_written_verifies_and_becomes_latest(tmp_path):
    path = write(tmp_path, files={"model.safetensors": lambda p: p.write_bytes(b"abc"), "critic.safetensors": b"q"})
    manifest = verify_checkpoint(path, contract_hash=CONTRACT, expect_sha256=manifest_sha256(path))
    assert latest(tmp_path) == path
    assert sorted(manifest.files) == ["config.json", "critic.safetensors", "model.safetensors", "norm.json"]
    assert manifest.files["model.safetensors"].size == 3
    assert (manifest.version, manifest.step, manifest.method) == ("v1", 1, "bc")
    assert json.loads((path / "norm.json").read_text()) == {"mean": [0.0, 0.0]}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: (d / "model.safetensors").unlink(), "missing"),
        (lambda d: (d / "model.safetensors").write_bytes(b"weight"), "6 bytes, expected 7"),
        (lambda d: (d / "model.safetensors").write_bytes(b"weightz"), "corrupt"),
        (lambda d: (d / "pickle.bin").write_bytes(b"x"), "not listed"),
        (lambda d: (d / "manifest.json").unlink(), "not a checkpoint"),
        (lambda d: (d / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda d: (d / "manifest.json").write_text('{"a": 1}'), "not a checkpoint manifest"),
        (lambda d: edit(d, format=2), "format = 2: expected 1"),
        (lambda d: edit(d, step=-1), "step"),
        (lambda d: edit(d, version="../v1"), "not a usable name"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path, damage, says):
    path = write(tmp_path)
    damage(path)
    with pytest.raises(AloeError, match=says) as refusal:
        verify_checkpoint(path)
    assert "\n" not in str(refusal.value)


def edit(directory: Path, **changes):
    manifest = directory / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def test_a_file_outside_the_directory_cannot_be_listed(tmp_path):
    path = write(tmp_path)
    files = json.loads((path / "manifest.json").read_text())["files"]
    edit(path, files=files | {"../LATEST": files["config.json"]})
    with pytest.raises(AloeError, match="not a usable name"):
        verify_checkpoint(path)


def test_a_symlink_in_place_of_a_file_is_refused(tmp_path):
    path = write(tmp_path)
    (tmp_path / "elsewhere").write_bytes(b"weights")
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AloeError, match="missing"):
        verify_checkpoint(path)


def test_wrong_contract_and_wrong_announcement_are_refused(tmp_path):
    path = write(tmp_path)
    with pytest.raises(AloeError, match="contract_hash = '0123456789abcdef': expected 'ffff'"):
        verify_checkpoint(path, contract_hash="ffff")
    with pytest.raises(AloeError, match="not the one announced"):
        verify_checkpoint(path, expect_sha256="0" * 64)


def test_a_version_is_never_overwritten(tmp_path):
    path = write(tmp_path)
    before = manifest_sha256(path)
    with pytest.raises(AloeError, match="exists already"):
        write(tmp_path, files={"model.safetensors": b"other"})
    assert manifest_sha256(path) == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "../x"}, "not a usable name"),
        ({"version": ".hidden"}, "not a usable name"),
        ({"files": {"manifest.json": b""}}, "written by write_checkpoint"),
        ({"norm": {"mean": float("nan")}}, "norm.json: holds a number that is not finite"),
        ({"config": {"x": object()}}, "cannot be stored as JSON"),
        ({"files": {"model.safetensors": lambda path: None}}, "produced no file"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, changes, says):
    with pytest.raises(AloeError, match=says):
        write(tmp_path, **changes)
    assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == []


def test_metrics_that_are_not_finite_become_null(tmp_path):
    path = write(tmp_path, metrics={"loss": float("nan"), "q": [np.float32(1.5), float("inf")]})
    assert verify_checkpoint(path).metrics == {"loss": None, "q": [1.5, None]}


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AloeError, match="cannot be written"):
        write(tmp_path / "file" / "root")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_one_sentence(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(AloeError, match="cannot be written"):
        write(tmp_path)


def test_rollback_goes_to_the_parent_and_promote_forward_again(tmp_path):
    first = write(tmp_path, "v1")
    second = write(tmp_path, "v2", parent="v1", step=2)
    assert latest(tmp_path) == second
    assert rollback(tmp_path) == first == latest(tmp_path)
    with pytest.raises(AloeError, match="no parent"):
        rollback(tmp_path)
    assert promote(tmp_path, "v2") == second == latest(tmp_path)
    (second / "model.safetensors").write_bytes(b"broken!")
    promote(tmp_path, "v1")
    with pytest.raises(AloeError, match="corrupt"):
        promote(tmp_path, "v2")
    assert latest(tmp_path) == first


def test_latest_without_a_pointer_is_none_and_a_dangling_one_is_an_error(tmp_path):
    assert latest(tmp_path / "nowhere") is None
    (tmp_path / "LATEST").write_text("gone\n")
    with pytest.raises(AloeError, match="names 'gone', which is not there"):
        latest(tmp_path)


def test_the_listing_keeps_order_and_shows_what_is_broken(tmp_path):
    for step, version in enumerate(["b", "a", "c"], start=1):
        write(tmp_path, version, step=step)
    (tmp_path / "junk").mkdir()
    found = list_checkpoints(tmp_path)
    assert [s.path.name for s in found if s.manifest] == ["b", "a", "c"]
    assert [(s.path.name, "not a checkpoint" in s.problem) for s in found if s.problem] == [("junk", True)]


@given(st.binary(max_size=64), st.integers(0, 63), st.integers(1, 255))
def test_any_changed_byte_is_noticed(tmp_path_factory, blob, at, flip):
    path = write(tmp_path_factory.mktemp("flip"), files={"model.safetensors": blob + b"."})
    body = bytearray((path / "model.safetensors").read_bytes())
    body[at % len(body)] ^= flip
    (path / "model.safetensors").write_bytes(bytes(body))
    with pytest.raises(AloeError, match="corrupt"):
        verify_checkpoint(path)


STEPS = ("fsync", "rename", "replace", "mkdir", "close")


def write_killed_at(root: Path, moment: int) -> bool:
    """Write v2 in a child that is killed before its `moment`-th system step; return whether it was."""
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
        write(root, "v2", parent="v1", step=2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_checkpoint(tmp_path):
    seen = set()
    for moment in range(200):
        root = tmp_path / str(moment)
        write(root, "v1")
        killed = write_killed_at(root, moment)
        current = latest(root)
        seen.add(current.name)
        verify_checkpoint(current, contract_hash=CONTRACT)
        assert all(s.problem is None for s in list_checkpoints(root))
        write(root, "v3")
        assert sorted(p.name for p in root.iterdir() if p.name.startswith(".")) == [".lock"]
        if not killed:
            break
    assert not killed
    assert moment > 10
    assert seen == {"v1", "v2"}

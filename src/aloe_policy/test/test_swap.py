import dataclasses
import threading

import numpy as np
import pytest

from aloe_core.checkpoint import manifest_sha256
from aloe_core.errors import AloeError
from aloe_policy.swap import CheckpointSwapper, local_directory, synthetic
from tiny_policy import TinyRuntime, load_tiny, tiny_contract, write_tiny


@pytest.fixture
def swapper():
    return CheckpointSwapper(tiny_contract(), load_tiny)


def test_a_good_checkpoint_is_swapped_in_and_the_previous_one_comes_back(swapper, tmp_path):
    first, second = write_tiny(tmp_path, "v1"), write_tiny(tmp_path, "v2", parent="v1")
    assert swapper.load(str(first)).version == "v1"
    assert swapper.announce(second.as_uri(), manifest_sha256(second), "v2").version == "v2"
    assert swapper.current.version == "v2"
    assert swapper.rollback().version == "v1" == swapper.current.version
    with pytest.raises(AloeError, match="no previous checkpoint"):
        swapper.rollback()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: (d / "model.safetensors").write_bytes(b"tinX"), "corrupt"),
        (lambda d: (d / "model.safetensors").write_bytes(b"ti"), "2 bytes, expected 4"),
        (lambda d: (d / "model.safetensors").unlink(), "missing"),
        (lambda d: (d / "extra").write_bytes(b""), "not listed"),
        (lambda d: (d / "manifest.json").unlink(), "not a checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_the_old_policy_goes_on(swapper, tmp_path, spoil, says):
    swapper.load(str(write_tiny(tmp_path, "v1")))
    before = swapper.current
    bad = write_tiny(tmp_path, "v2")
    spoil(bad)
    with pytest.raises(AloeError, match=says):
        swapper.announce(str(bad), "", "v2")
    assert swapper.current is before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"contract_hash": "ffff"}, "contract_hash = 'ffff': expected"),
        ({"slope": "nan"}, "its chunk is not finite"),
        ({"slope": 5.0}, "moves shoulder far beyond"),
        ({"slope": "steep"}, "cannot run .ValueError: could not convert string to float"),
        ({"config": {}}, "cannot run .KeyError: 'slope'"),
    ],
)
def test_a_checkpoint_that_cannot_drive_this_robot_is_refused(swapper, tmp_path, changes, says):
    swapper.load(str(write_tiny(tmp_path, "v1")))
    bad = write_tiny(tmp_path, "v2", **changes)
    with pytest.raises(AloeError, match=says):
        swapper.load(str(bad))
    assert swapper.current.version == "v1"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda i: dataclasses.replace(i, chunk=dataclasses.replace(i.chunk, actions=i.chunk.actions[:3])), "shape"),
        (lambda i: dataclasses.replace(i, chunk=dataclasses.replace(i.chunk, execute=0)), "execute = 0"),
        (
            lambda i: dataclasses.replace(i, value=dataclasses.replace(i.value, q_min=float("nan"))),
            "value is not finite",
        ),
    ],
)
def test_the_dry_run_refuses_what_the_arbiter_could_not_run(tmp_path, spoil, says):
    class Spoilt(TinyRuntime):
        def infer(self, obs):
            return spoil(super().infer(obs))

    swapper = CheckpointSwapper(tiny_contract(), lambda d, sha: Spoilt("v1", 0.01, tiny_contract()))
    with pytest.raises(AloeError, match=says):
        swapper.load(str(write_tiny(tmp_path, "v1")))
    assert swapper.current is None


def test_the_dry_run_uses_a_recorded_observation_once_there_is_one(tmp_path):
    seen = []

    class Watching(TinyRuntime):
        def infer(self, obs):
            seen.append(obs)
            return super().infer(obs)

    swapper = CheckpointSwapper(tiny_contract(), lambda d, sha: Watching("v1", 0.01, tiny_contract()))
    swapper.recorded = dataclasses.replace(synthetic(tiny_contract()), stamp=42)
    swapper.load(str(write_tiny(tmp_path, "v1")))
    assert [obs.stamp for obs in seen] == [0, 42]


def test_a_runtime_that_is_not_the_announced_version_is_refused(tmp_path):
    swapper = CheckpointSwapper(tiny_contract(), lambda d, sha: TinyRuntime("other", 0.01, tiny_contract()))
    with pytest.raises(AloeError, match="calls itself 'other': expected 'v1'"):
        swapper.load(str(write_tiny(tmp_path, "v1")))


def test_an_announcement_must_match_its_sha256(swapper, tmp_path):
    path = write_tiny(tmp_path, "v1")
    with pytest.raises(AloeError, match="not the one announced"):
        swapper.announce(str(path), "0" * 64, "v1")


def test_the_same_version_announced_again_is_not_loaded_again(swapper, tmp_path):
    path = write_tiny(tmp_path, "v1")
    loaded = swapper.announce(str(path), "", "v1")
    assert swapper.announce(str(path), "", "v1") is loaded
    with pytest.raises(AloeError, match="no previous"):
        swapper.rollback()


def test_pinned_means_only_the_operator_changes_the_policy(swapper, tmp_path):
    first, second = write_tiny(tmp_path, "v1"), write_tiny(tmp_path, "v2")
    swapper.load(str(first), pin=True)
    with pytest.raises(AloeError, match="v1 is pinned"):
        swapper.announce(str(second), "", "v2")
    swapper.load(str(first))
    assert swapper.announce(str(second), "", "v2").version == "v2"


def test_a_rolled_back_version_returns_only_by_explicit_order(swapper, tmp_path):
    first, second = write_tiny(tmp_path, "v1"), write_tiny(tmp_path, "v2")
    swapper.load(str(first))
    swapper.load(str(second))
    swapper.rollback()
    with pytest.raises(AloeError, match="it was rolled back"):
        swapper.announce(str(second), "", "v2")
    assert swapper.load(str(second)).version == "v2"
    swapper.load(str(first))
    assert swapper.announce(str(second), "", "v2").version == "v2", "the order made it acceptable again"


def test_while_one_loads_the_old_policy_stays_in_use(tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def slow(directory, sha256):
        if directory.name == "v2":
            begun.set()
            assert go_on.wait(10)
        return load_tiny(directory)

    swapper = CheckpointSwapper(tiny_contract(), slow)
    swapper.load(str(write_tiny(tmp_path, "v1")))
    second = write_tiny(tmp_path, "v2")
    thread = threading.Thread(target=swapper.load, args=(str(second),))
    thread.start()
    assert begun.wait(10)
    assert swapper.current.version == "v1"
    assert np.isfinite(swapper.current.runtime.infer(synthetic(tiny_contract())).chunk.actions).all()
    go_on.set()
    thread.join(10)
    assert swapper.current.version == "v2"


@pytest.mark.parametrize(("uri", "says"), [("s3://bucket/v1", "s3 was not fetched"), ("", "uri is empty")])
def test_a_uri_that_is_no_local_directory_is_refused(uri, says):
    with pytest.raises(AloeError, match=says):
        local_directory(uri)

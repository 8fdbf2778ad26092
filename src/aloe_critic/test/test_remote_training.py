"""A policy behind a server that trains, a real process: what its verbs do, what it refuses, what outlives a kill."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from aloe_core.checkpoint import latest, verify_checkpoint
from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_critic.remote.client import TrainingClient
from aloe_policy.remote.connection import Connection, Lost
from aloe_policy.runtime import load_runtime
from aloe_policy.untrained import write_untrained

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "src/aloe_policy/test"))
from server_processes import native, served

CONTRACT = ROOT / "config/robots/aloha_sim.yaml"
ROBOT = load_contract(CONTRACT)
HORIZON, JOINTS = ROBOT.chunk.horizon, ROBOT.action_dim
ROWS = 8

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_untrained(tmp_path_factory.mktemp("untrained"), ROBOT, small=True, critic=False)


def server(checkpoint, folder, port=0, save_period=60.0):
    script = Path(__file__).with_name("native_trainee.py")
    command = [sys.executable, script, checkpoint, CONTRACT, folder / "out", port, save_period]
    return served([str(part) for part in command], folder / "log")


@pytest.fixture(scope="module")
def shared(checkpoint, tmp_path_factory):
    """A server for tests that begin a run of their own, and so on the weights it started with."""
    with server(checkpoint, tmp_path_factory.mktemp("shared")) as process:
        yield process


def connected(served_):
    return closing(TrainingClient(served_.url, 60.0))


def batch(rows=ROWS, seed=0):
    """Observations, chunks that depend on them, and lengths."""
    rng = np.random.default_rng(seed)
    state = ((ROBOT.lower + ROBOT.upper) / 2 + 0.1 * rng.standard_normal((rows, JOINTS))).astype(np.float32)
    images = {
        f"observation/{camera.name}": rng.integers(0, 255, (rows, camera.height, camera.width, 3), np.uint8)
        for camera in ROBOT.cameras
    }
    ramp = np.linspace(0, 1, HORIZON, dtype=np.float32)[None, :, None]
    chunks = state[:, None] + 0.1 * ramp * np.sign(state - state.mean(0))[:, None]
    obs = {**images, "observation/state": state, "prompt": ["sort the blocks"] * rows}
    return obs, chunks.astype(np.float32), np.full(rows, HORIZON)


def steps(client, run, count, start=0, rate=3e-3, weight=1.0):
    obs, chunks, length = batch()
    weights = np.full(ROWS, weight, np.float32)
    return [client.step(run, start + n, obs, chunks, length, weights, rate, 1.0)[0] for n in range(count)]


def judge(client):
    """Mean loss of the batch over several draws of noise and time."""
    return float(np.mean([client.losses(*batch(), seed=seed) for seed in range(20)]))


def test_features_are_the_same_for_the_same_observations_and_samples_for_the_same_seed(shared):
    with connected(shared) as client:
        obs, _, _ = batch()
        z = client.features(obs)
        assert z.shape == (ROWS, client.offer.training.feature_dim) and z.dtype == np.float32
        np.testing.assert_array_equal(client.features(obs), z)
        assert np.abs(z - z[:1]).max() > 0.01, "it sees"
        chunks = client.sample(obs, 3, seed=1)
        assert chunks.shape == (ROWS, 3, HORIZON, JOINTS)
        np.testing.assert_array_equal(client.sample(obs, 3, seed=1), chunks)
        assert not np.array_equal(client.sample(obs, 3, seed=2), chunks)
        client.begin("features", 0)
        steps(client, "features", 5)
        np.testing.assert_array_equal(client.features(obs), z, err_msg="training moved the features")


def test_a_batch_of_weight_0_changes_nothing_and_one_of_weight_1_is_overfitted(shared):
    with connected(shared) as client:
        assert client.begin("weights", 0) == (0, "")
        steps(client, "weights", 1)
        before = judge(client)
        assert steps(client, "weights", 3, start=1, weight=0.0) == [0.0] * 3
        assert judge(client) == before
        steps(client, "weights", 150, start=4)
        assert judge(client) < 0.5 * before
        assert client.begin("weights", 0) == (154, "")


def test_the_loss_of_a_step_is_the_mean_of_the_weighted_losses(shared):
    with connected(shared) as client:
        obs, chunks, length = batch()
        weight = np.arange(ROWS, dtype=np.float32)
        client.begin("loss", 40)  # noise and time of step 0 are those of the seed
        each = client.losses(obs, chunks, length, seed=40)
        loss, norm = client.step("loss", 0, obs, chunks, length, weight, 1e-4, 1.0)
        assert loss == pytest.approx(float((weight * each).mean()), rel=1e-4) and norm > 0


def test_what_does_not_fit_is_refused_in_a_sentence(shared):
    obs, chunks, length = batch()
    good = {"run": "run", "number": 0, "obs": obs, "chunks": chunks, "length": length, "rate": 1e-3, "clip": 1.0}
    good["weight"] = np.ones(ROWS)
    holes = chunks.copy()
    holes[2, 3, 1] = np.nan
    cases = [
        ({"chunks": chunks[:, :5]}, rf"aloe/chunks is float32 \(8, 5, 14\): expected numbers of shape \(8, {HORIZON}"),
        ({"chunks": holes}, "aloe/chunks holds numbers that are not finite"),
        ({"weight": np.ones(3)}, r"aloe/weight is float64 \(3,\)"),
        ({"weight": -np.ones(ROWS)}, "below 0"),
        ({"length": np.zeros(ROWS, int)}, f"expected 1 to {HORIZON} steps"),
        ({"obs": obs | {"observation/state": obs["observation/state"][:3]}}, "expected an array of 8 rows"),
        ({"obs": obs | {"prompt": "one"}}, "expected a list of 1 to"),
        ({"rate": float("nan")}, "aloe/rate = nan: expected a number above 0"),
        ({"number": 7}, "has 0 steps behind it"),
        ({"run": "another"}, "not the one under way"),
    ]
    with connected(shared) as client:
        for change, words in cases:
            client.begin("run", 0)
            with pytest.raises(AloeError, match=words) as caught:
                client.step(**(good | change))
            assert "\n" not in str(caught.value) and not isinstance(caught.value, Lost)
        client.begin("run", 0)
        with pytest.raises(AloeError, match="it was not taken; lower the learning rate"):
            client.step(**(good | {"chunks": chunks + 1e30}))
        assert client.begin("run", 0) == (0, "") and np.isfinite(judge(client))
        connection = Connection(shared.url, 60.0)
        with pytest.raises(AloeError, match="'dance': expected one of begin, features, sample, loss, step, save"):
            connection.request({"aloe/do": "dance"}, 60.0)


def test_a_server_that_only_drives_is_refused(checkpoint, tmp_path):
    with (
        native(checkpoint, CONTRACT, tmp_path / "log") as process,
        pytest.raises(AloeError, match=r"does not train: expected one started by \./aloe policy-server --lerobot"),
    ):
        TrainingClient(process.url, 60.0)


def test_it_drives_until_its_policy_changes(checkpoint, tmp_path):
    obs, _, _ = batch(1)
    one = {key: value[0] for key, value in obs.items()}
    with server(checkpoint, tmp_path) as process, connected(process) as client:
        drives = Connection(process.url, 60.0)
        assert drives.request(one, 60.0)["actions"].shape == (HORIZON, JOINTS)
        client.begin("run", 0)
        steps(client, "run", 1)
        with pytest.raises(AloeError, match="its policy has changed: serve a version it saved"):
            drives.request(one, 60.0)


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory):
    """Losses after 12 steps of a server that was not killed."""
    with server(checkpoint, tmp_path_factory.mktemp("whole")) as process, connected(process) as client:
        client.begin("run", 3)
        steps(client, "run", 12)
        return client.losses(*batch(), seed=0)


@pytest.mark.parametrize("save_period", [0.0, 60.0])
def test_steps_that_a_killed_server_had_not_saved_are_taken_again_as_they_were(
    checkpoint, whole, tmp_path, save_period
):
    with server(checkpoint, tmp_path, save_period=save_period) as process, connected(process) as client:
        client.begin("run", 3)
        steps(client, "run", 7)
        process.end()  # SIGKILL
        with pytest.raises(Lost, match=r"connection was lost|cannot connect"):
            steps(client, "run", 1, start=7)
        with server(checkpoint, tmp_path, process.port):
            known, _ = client.begin("run", 3)
            assert known == (7 if save_period == 0 else 0)
            steps(client, "run", 12 - known, start=known)
            np.testing.assert_array_equal(client.losses(*batch(), seed=0), whole)


def test_sigterm_keeps_every_step_and_another_policy_does_not_go_on_with_them(checkpoint, tmp_path):
    with server(checkpoint, tmp_path) as process, connected(process) as client:
        client.begin("run", 0)
        steps(client, "run", 3)
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(60) == 0
    with server(checkpoint, tmp_path) as process, connected(process) as client:
        assert client.begin("run", 0) == (3, "")
    other = write_untrained(tmp_path, ROBOT, "v0009-other", small=True, critic=False)
    with pytest.raises(AssertionError, match="an unfinished run of 3 steps, of head of v0001-untrained"):
        server(other, tmp_path).__enter__()


def test_a_saved_version_is_a_checkpoint_and_the_next_run_begins_with_it(checkpoint, tmp_path):
    with server(checkpoint, tmp_path) as process, connected(process) as client:
        client.begin("first", 0)
        steps(client, "first", 5)
        saved = client.losses(*batch(), seed=0)
        version, folder = client.save("first", "aloe", ROBOT.hash, {"loss": 0.5}, b"weights", {"candidates": 8})
        assert version == "v0001-aloe" and latest(tmp_path / "out") == Path(folder)
        assert client.save("first", "aloe", ROBOT.hash, {}, None, {}) == (version, folder), "asked again: the same"
        manifest = verify_checkpoint(folder, contract_hash=ROBOT.hash)
        assert manifest.metrics == {"loss": 0.5} and set(manifest.files) >= {"critic.safetensors", "critic.json"}
        with pytest.raises(AloeError, match="has ended, it is v0001-aloe"):
            steps(client, "first", 1, start=5)

        client.begin("second", 0)
        steps(client, "second", 2)
        client.begin("third", 0)
        np.testing.assert_array_equal(client.losses(*batch(), seed=0), saved, err_msg="unsaved steps are undone")
        second, _ = client.save("third", "bc", ROBOT.hash, {}, None, {})
        assert second == "v0002-bc"
        assert verify_checkpoint(tmp_path / "out" / second).parent == "v0001-aloe"
    mine, theirs = (load_file(f / "model.safetensors") for f in (checkpoint, Path(folder)))
    moved = {name for name in mine if not np.array_equal(mine[name], theirs[name])}
    assert moved and all(name.startswith("head.") for name in moved)
    for extra in ("critic.safetensors", "critic.json"):
        assert (Path(folder) / extra).exists()
    assert load_runtime(tmp_path / "out" / second, ROBOT).version == second

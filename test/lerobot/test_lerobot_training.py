"""LeRobot's policies post-trained: what moves, what the loss is, and a whole iteration of ALOE through the verbs."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "src/aloe_core/test"))

from lerobot_tools import HORIZON, KINDS, STATE, VERB, contract, observation, run, serve

import bagmaker
from aloe_core.checkpoint import latest, verify_checkpoint
from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.remote.client import TrainingClient
from server_processes import served
from test_remote import Client

TRAINS = ["expert", "lora"]
EXPERT = {
    "act": ("model.decoder", "model.action_head."),
    "smolvla": ("model.vlm_with_expert.lm_expert.", "model.action_"),
    "pi0": ("model.paligemma_with_expert.gemma_expert.model.", "model.action_", "model.state_proj."),
    "pi05": ("model.paligemma_with_expert.gemma_expert.model.", "model.action_", "model.time_mlp_"),
}
EXPERT["pi05_bfloat16"] = EXPERT["pi05"]
TRAINED = [*KINDS, "pi05_bfloat16"]

pytestmark = pytest.mark.timeout(1800)


class Facts(dict):
    """Facts of each policy, found when they are first asked for."""

    def __init__(self, find):
        self._find = find

    def __missing__(self, kind):
        self[kind] = self._find(kind)
        return self[kind]


@pytest.fixture(scope="module")
def facts(saved, tmp_path_factory):
    """What train_in_process.py found, of each policy."""
    work = tmp_path_factory.mktemp("facts")

    def find(kind):
        script, small = "train_in_process.py", kind.startswith("pi")
        return json.loads(run(script, saved / kind, work / kind, small=small))

    return Facts(find)


@pytest.mark.parametrize("kind", TRAINED)
def test_features_have_the_promised_size_repeat_and_see_every_camera(facts, kind):
    found = facts[kind]["features"]
    assert found["shape"] == [4, found["promised"]]
    assert found["again"] and found["alone"] < 1e-4, "an observation's features do not depend on its batch"
    assert found["camera"] > 1e-3
    assert (found["prompt"] > 1e-3) == (kind != "act"), "ACT does not read"


@pytest.mark.parametrize("kind", TRAINED)
def test_the_loss_with_weights_of_1_is_lerobots_own_with_the_same_noise_and_time(facts, kind):
    found = facts[kind]["loss"]
    for mode in ("eval", "train"):
        mine, theirs = found[mode]
        assert mine == pytest.approx(theirs, rel=1e-5)
    if kind == "act":
        assert found["train"][0] > found["eval"][0], "in training the KL term of its VAE is added"
    assert found["past_the_length"] == 0, "steps that never ran do not count"
    assert found["weighted"][0] == pytest.approx(found["weighted"][1], rel=1e-5)


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("kind", TRAINED)
def test_only_the_expert_moves_or_only_its_adapters_and_the_features_stand_still(facts, kind, trains):
    found = facts[kind][trains]
    assert found["moved"] and found["chunks_moved"] > 1e-3 and found["features_moved"] == 0
    if trains == "expert":
        assert all(name.startswith(EXPERT[kind]) for name in found["moved"])
    else:
        assert all(".lora_" in name for name in found["moved"])
        assert found["weights"] < facts[kind]["expert"]["weights"] / 2
    # In the file there are no adapters, and what differs from the base is the expert.
    assert found["saved_as_other"] and all(name.startswith(EXPERT[kind]) for name in found["saved_as_other"])


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("kind", TRAINED)
def test_a_batch_is_overfitted_and_what_is_saved_gives_the_same_chunks(facts, kind, trains):
    found = facts[kind][trains]
    first, last = found["losses"]
    assert last < (0.7 if trains == "expert" else 0.9) * first
    # Merged into bfloat16, adapters are rounded once.
    assert found["chunks_after_loading"] < (0.01 if kind.endswith("bfloat16") and trains == "lora" else 1e-5)
    assert found["version"].startswith(f"v0001-aloe-{kind.split('_')[0]}-")
    assert "corrupt (sha256 differs" in found["torn"]


def training_server(policy: Path, out: Path, log: Path, *options: str):
    return served([*serve(policy), "--out", str(out), "--train", *options], log)


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """A demonstration and a policy's failure of the small robot, and its contract."""
    robot, folder = contract(), tmp_path_factory.mktemp("bags")
    file = folder / "robot.yaml"
    file.write_text(yaml.safe_dump(json.loads(robot.model_dump_json())))
    picture = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bagmaker, "contract", lambda: robot)
        patch.setattr(bagmaker, "jpeg", lambda camera, frame: picture)
        for name, source, outcome in (
            ("shown", Source.HUMAN, Outcome.SUCCESS),
            ("failed", Source.POLICY, Outcome.FAILURE),
        ):
            take = bagmaker.Take(folder / "bags", name)
            take.run(40, source=int(source))
            take.writer.close(bagmaker.labels(steps=40, outcome=outcome))
    return folder / "bags", file


def iteration(bags, out: Path, url: str) -> dict:
    """`./aloe train --policy-server`, with steps for a test."""
    folder, robot = bags
    small = {"critic_width": 16, "critic_layers": 2, "critic_steps": 20, "refresh_steps": 20, "bank": 4}
    small |= {"value_samples": 4, "server_steps": 12, "server_batch": 4, "server_lr": 1e-3, "threads": 1}
    settings = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "aloe_cli", "train", "--json", "--bags", str(folder), "--out", str(out)]
    command += ["--contract", str(robot), "--policy-server", url, "--method", "aloe_select", *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("kind", "trains"), [("smolvla", "lora"), ("act", "expert"), ("pi0", "expert"), ("pi05", "lora")]
)
def test_an_iteration_of_aloe_gives_a_version_that_drives_and_chooses(saved, bags, tmp_path, kind, trains):
    versions = tmp_path / f"{kind}-versions"
    with training_server(saved / kind, versions, tmp_path / "log", trains) as server:
        result = iteration(bags, tmp_path / "critics", server.url)
        assert 0 < result["metrics"]["effective_size"] <= 1
        there = latest(versions)
        assert there is not None and there.name == result["metrics"]["policy_version"] == "v0001-aloe_select"
        verify_checkpoint(there, contract_hash=contract().hash)
        one = observation()
        obs = {f"observation/{name}": image[None] for name, image in one.images.items()}
        obs |= {"observation/state": STATE[None], "prompt": [one.instruction]}
        with closing(TrainingClient(server.url, 120.0)) as client:
            assert client.offer.training.trains == ("lora 16" if trains == "lora" else "expert")
            assert client.offer.training.loss == ("L1" if kind == "act" else "flow matching")
            chunk = client.sample(obs, 1, seed=0)[0, 0]
    with (
        served(serve(versions), tmp_path / "log2") as server,
        Client(server.url, contract(), timeout=30.0, warm_up=120.0) as client,
    ):
        assert server.line.split()[1].startswith(f"v0001-aloe_select-{kind}-")
        client.until(lambda: client.runtime.problem is None, "connected", 120)
        inference = client.runtime.infer(one)
        assert inference.candidates == 8 and inference.value is not None
        assert inference.value.q_min <= inference.value.q_mean and inference.value.advantage >= -1e-6
        if kind == "act":
            np.testing.assert_allclose(inference.chunk.actions, chunk, atol=1e-5)


def test_a_killed_server_goes_on_with_its_run_and_a_driving_client_is_not_confused(saved, tmp_path):
    rng = np.random.default_rng(0)
    obs = {f"observation/{n}": rng.integers(0, 255, (4, 64, 64, 3), np.uint8) for n in ("front", "wrist")}
    obs |= {"observation/state": np.tile(STATE, (4, 1)), "prompt": ["sort the blocks"] * 4}
    batch = rng.normal([0.3, -0.3], 0.1, (4, HORIZON, 2)).astype(np.float32), np.full(4, HORIZON)

    def steps(client, first, end):
        return [client.step("run", n, obs, *batch, np.ones(4), 1e-3, 10.0)[0] for n in range(first, end)]

    policy, out = saved / "smolvla", tmp_path / "out"
    with training_server(policy, out, tmp_path / "log", "expert") as server:
        with Client(server.url, contract(), timeout=30.0, warm_up=120.0) as drives:
            drives.until(lambda: drives.runtime.problem is None, "connected", 120)
            assert drives.runtime.infer(observation()).chunk.actions.shape == (HORIZON, 2)
        with closing(TrainingClient(server.url, 120.0)) as client:
            client.begin("run", 0)
            whole = steps(client, 0, 6)
            with pytest.raises(AloeError, match=r"expected an image, uint8 \(64, 64, 3\)"):
                client.features(obs | {"observation/front": obs["observation/front"][:, :32]})
            client.begin("run", 0)
            server.process.terminate()
            assert server.process.wait(120) == 0
    with (
        training_server(policy, out, tmp_path / "log", "expert") as server,
        closing(TrainingClient(server.url, 120.0)) as client,
    ):
        assert client.begin("run", 0) == (6, "")
        assert client.begin("another", 0) == (0, "")
        assert client.begin("run", 0) == (0, ""), "the other run undid it"
        np.testing.assert_allclose(steps(client, 0, 6), whole, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--train", "everything", "--out", "o"], "train = 'everything': expected one of expert, lora."),
        (["--train", "lora"], "--train needs --out"),
        (["--out", "o"], "means nothing without --train"),
        (["--code", "mine"], "code = 'mine': expected one of lerobot, graph."),
        (["--code", "graph"], "code = 'graph': expected --lerobot and --device cuda"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_a_sentence(saved, options, words):
    done = subprocess.run([*VERB, str(saved / "act"), *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and words in " ".join(done.stderr.split()) and "Traceback" not in done.stderr

"""Policies that LeRobot saved, behind `./aloe policy-server --lerobot`, asked by the client of policy_node."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from lerobot_tools import HORIZON, KINDS, STATE, contract, observation, run, serve

from aloe_core.errors import AloeError
from aloe_policy.remote.connection import Connection
from server_processes import served
from test_remote import Client

pytestmark = pytest.mark.timeout(1800)  # importing LeRobot takes half a minute where others compute


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_drives_without_a_mapping_where_its_cameras_have_the_contracts_names(saved, tmp_path, kind):
    with served(serve(saved / kind), tmp_path / "log") as server:
        assert server.line.startswith(f"policy-server: {kind}-")
        with Client(server.url, contract(), timeout=20.0, warm_up=120.0) as client:
            client.until(lambda: client.runtime.problem is None, "connected", 120)
            inference = client.runtime.infer(observation())
            assert inference.chunk.actions.shape == (HORIZON, 2)
            assert inference.chunk.policy_version == server.line.split()[1]
            samples = client.runtime.sample(observation(), 3)
            assert samples.shape == (3, HORIZON, 2)
            same = np.allclose(samples[0], samples[1], atol=1e-5)
            assert same == (kind == "act"), "a flow gives different chunks, ACT one"


def test_a_chunk_of_act_is_what_lerobot_itself_would_do(saved, tmp_path):
    expected = np.array(json.loads(run("by_lerobot.py", saved / "act")))
    assert expected.std() > 1e-3 and abs(expected.mean(axis=0) - [0.3, -0.3]).max() < 0.5
    with (
        served(serve(saved / "act"), tmp_path / "log") as server,
        Client(server.url, contract(), timeout=20.0, warm_up=120.0) as client,
    ):
        client.until(lambda: client.runtime.problem is None, "connected", 120)
        got = client.runtime.infer(observation()).chunk.actions
        np.testing.assert_allclose(got, expected, atol=1e-5)
        assert not np.allclose(client.runtime.infer(observation(0)).chunk.actions, got, atol=1e-6), "it sees"


def test_an_observation_that_does_not_fit_is_refused_in_a_sentence(saved, tmp_path):
    good = {f"observation/{n}": np.zeros((64, 64, 3), np.uint8) for n in ("front", "wrist")}
    good |= {"observation/state": STATE, "prompt": "sort the blocks"}
    cases = [
        (good | {"observation/front": np.zeros((32, 32, 3), np.uint8)}, r"expected an image, uint8 \(64, 64, 3\)"),
        (good | {"observation/state": np.zeros(3)}, "expected 2 finite numbers"),
        (good | {"aloe/samples": 1000}, "expected a whole number, 1 to 64"),
    ]
    with served(serve(saved / "act"), tmp_path / "log") as server:
        for bad, said in cases:
            connection = Connection(server.url, 60.0)
            with pytest.raises(AloeError, match=said):
                connection.request(bad, 60.0)
            connection.close()


@pytest.mark.parametrize("kind", ["act", "pi0"])
def test_a_policy_that_is_not_whole_is_refused_with_what_is_wrong(saved, tmp_path, kind):
    said = json.loads(run("load_broken.py", saved / kind, tmp_path, small=kind == "pi0"))
    bias = "model.action_head.bias" if kind == "act" else "model.action_out_proj.bias"
    for case, expected in {
        "a weight is missing": bias,
        "a weight is not finite": f"{bias} holds values that are not finite",
        # LeRobot's π0 prints a warning and goes on.
        "a weight has another shape": "size mismatch" if kind == "act" else f"{bias} did not arrive in the model",
        "the weights are torn": "LeRobot cannot load it",
        "no weights": "no such file",
        "no processor": "LeRobot cannot load it",
        "a weight is another": "did not arrive in the model",
    }.items():
        assert expected in said[case], (case, said[case])
    if kind == "pi0":
        assert said["words are saved once"] == "nothing", "as openpi's files have them"
        assert "would be random" in said["words are not saved"]
        assert "google/nothing" in said["no tokenizer"]


def test_a_folder_without_weights_ends_the_server_with_a_sentence(saved, tmp_path):
    shutil.copytree(saved / "act", tmp_path / "act")
    (tmp_path / "act" / "model.safetensors").unlink()
    done = subprocess.run(serve(tmp_path / "act"), capture_output=True, text=True, timeout=500)
    assert done.returncode == 2 and "no such file" in done.stderr and "Traceback" not in done.stderr

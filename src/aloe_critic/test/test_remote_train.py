"""Whole iterations of the trainer on a policy behind a server, a real process, from bags."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file

from aloe_core.checkpoint import latest, verify_checkpoint
from aloe_core.contract import load_contract
from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.remote.actor import PHASE
from aloe_critic.trainer import TrainRequest, train
from aloe_policy.remote.connection import Lost
from aloe_policy.untrained import write_untrained

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "src/aloe_policy/test"), str(ROOT / "src/aloe_core/test")]
import bagmaker
from server_processes import served

CONTRACT = ROOT / "config/robots/aloha_sim.yaml"
ROBOT = load_contract(CONTRACT)
STEPS = 30
SMALL = {
    "threads": 1,
    "critic_width": 16,
    "critic_layers": 2,
    "critic_batch": 16,
    "critic_steps": 20,
    "refresh_steps": 20,
    "bank": 4,
    "value_samples": 4,
    "server_steps": STEPS,
    "server_batch": 8,
    "server_lr": 1e-3,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_untrained(tmp_path_factory.mktemp("untrained"), ROBOT, small=True, critic=False)


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """A demonstration, a policy's failure, and a take in which nobody drove."""
    picture = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))[1].tobytes()
    folder = tmp_path_factory.mktemp("bags")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bagmaker, "jpeg", lambda camera, frame: picture)
        for name, source, outcome in (
            ("shown", Source.HUMAN, Outcome.SUCCESS),
            ("failed", Source.POLICY, Outcome.FAILURE),
        ):
            take = bagmaker.Take(folder, name)
            take.run(40, source=int(source))
            take.writer.close(bagmaker.labels(steps=40, outcome=outcome))
    return folder


def server(checkpoint, folder, port=0, save_period=60.0):
    folder.mkdir(exist_ok=True)
    script = Path(__file__).with_name("native_trainee.py")
    command = [sys.executable, script, checkpoint, CONTRACT, folder / "versions", port, save_period]
    return served([str(part) for part in command], folder / "log")


def request(bags, folder, url, **changes):
    fields = {"method": "aloe_select", "overrides": SMALL, "server": url} | changes
    return TrainRequest([str(bags)], str(folder / "critics"), str(CONTRACT), **fields)


def trained(folder, version):
    return load_file(folder / "versions" / version / "model.safetensors")


def test_an_iteration_saves_the_policy_with_its_critic_and_the_next_one_goes_on_with_both(checkpoint, bags, tmp_path):
    with server(checkpoint, tmp_path) as process:
        seen = []
        result = train(request(bags, tmp_path, process.url), lambda phase, step, *_: seen.append((phase, step)))
        assert result.version == "v0001-aloe_select" and result.episodes == 2
        assert {"features", "chunks of the policy", "critic", PHASE, "critic on new policy"} <= {p for p, _ in seen}
        assert 0 < result.metrics["effective_size"] <= 1
        here, there = Path(result.uri), tmp_path / "versions" / "v0001-aloe_select"
        verify_checkpoint(here, contract_hash=ROBOT.hash)
        verify_checkpoint(there, contract_hash=ROBOT.hash)
        said = json.loads((here / "config.json").read_text())
        assert said["policy_server"]["version"] == there.name and said["policy_server"]["base"] == "v0001-untrained"
        assert (here / "critic.safetensors").read_bytes() == (there / "critic.safetensors").read_bytes()
        beside = json.loads((there / "critic.json").read_text())
        assert beside["critic"] == said["critic"] and beside["candidates"] == 8
        assert not list((tmp_path / "critics" / ".runs" / result.version).glob("*.safetensors")), "the run is over"

        again = train(request(bags, tmp_path, process.url, method="aloe"))
        assert again.version == "v0002-aloe" and latest(tmp_path / "critics").name == "v0002-aloe"
        manifest = verify_checkpoint(again.uri)
        assert manifest.parent == "v0001-aloe_select"
        cloned = train(request(bags, tmp_path, process.url, method="hg_dagger"))
        assert cloned.metrics["imitated"] > 0 and not (Path(cloned.uri) / "critic.safetensors").exists()
    first, second = trained(tmp_path, "v0001-aloe_select"), trained(tmp_path, "v0002-aloe")
    start = load_file(checkpoint / "model.safetensors")
    for before, after in ((start, first), (first, second)):
        assert any(not np.array_equal(before[name], after[name]) for name in before)


@pytest.fixture(scope="module")
def whole(checkpoint, bags, tmp_path_factory):
    """What an iteration leaves whose server is not killed."""
    folder = tmp_path_factory.mktemp("whole")
    with server(checkpoint, folder) as process:
        train(request(bags, folder, process.url))
    return folder


@pytest.mark.parametrize("phase", ["chunks of the policy", PHASE, "critic on new policy"])
def test_a_server_killed_in_any_phase_is_told_and_the_same_command_goes_on(checkpoint, bags, whole, tmp_path, phase):
    killed = tmp_path / "killed"
    with server(checkpoint, killed, save_period=0.0) as process:

        def kill(at, step, *_):
            if at == phase and (phase != PHASE or step >= 10):
                process.end()

        asked = request(bags, killed, process.url)
        with pytest.raises(Lost, match=r"Start it again as before and give the same command") as caught:
            train(asked, kill)
        assert "\n" not in str(caught.value)
        with pytest.raises(Lost, match="cannot connect"):
            train(asked)
        with server(checkpoint, killed, process.port):
            steps = []
            result = train(asked, lambda at, step, *_: steps.append((at, step)))
            assert result.version == "v0001-aloe_select"
            assert "features" not in {at for at, _ in steps}, "what was asked before is kept"
            if phase == PHASE:
                assert min(step for at, step in steps if at == PHASE) > 10, "goes on, does not start anew"
    one, two = trained(whole, "v0001-aloe_select"), trained(killed, "v0001-aloe_select")
    assert all(np.array_equal(one[name], two[name]) for name in one)
    critics = (load_file(f / "versions/v0001-aloe_select/critic.safetensors") for f in (whole, killed))
    mine, theirs = critics
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


# Dies where the server has saved the policy and nothing of its critic is published here yet.
DIES = """
import os, signal, sys
from aloe_critic import trainer
from aloe_critic.remote import train
train._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(trainer.main(["--request", sys.argv[1]]))
"""


def test_a_trainer_killed_between_the_servers_save_and_its_own_publishes_the_same_version_when_asked_again(
    checkpoint, bags, tmp_path
):
    with server(checkpoint, tmp_path) as process:
        asked = request(bags, tmp_path, process.url)
        (tmp_path / "request.json").write_text(json.dumps(asdict(asked)))
        died = subprocess.run([sys.executable, "-c", DIES, tmp_path / "request.json"], stdout=subprocess.DEVNULL)
        assert died.returncode == -signal.SIGKILL
        there = tmp_path / "versions" / "v0001-aloe_select"
        verify_checkpoint(there, contract_hash=ROBOT.hash)
        assert latest(tmp_path / "critics") is None
        before = (there / "model.safetensors").read_bytes()

        result = train(asked)
        assert result.version == "v0001-aloe_select" and latest(tmp_path / "critics").name == result.version
        assert result.metrics["policy_version"] == there.name
        assert [f.name for f in there.parent.glob("v*")] == [there.name], "saved once"
        assert (there / "model.safetensors").read_bytes() == before
        assert (Path(result.uri) / "critic.safetensors").read_bytes() == (there / "critic.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "iql"}, "method = 'iql': with a policy server expected one of bc, filtered_bc"),
        ({"method": "allo"}, "expected one of bc"),
        ({"init": "v0001-bc"}, "init = 'v0001-bc': means nothing with a policy server"),
        ({"publish": "file:///tmp"}, "publish = 'file:///tmp': means nothing"),
        ({"server": "http://127.0.0.1:1"}, "expected ws://host:port"),
        ({"server": "ws://127.0.0.1:1"}, "cannot connect"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_a_sentence(bags, tmp_path, changes, words):
    with pytest.raises(AloeError, match=words) as caught:
        train(request(bags, tmp_path, "ws://127.0.0.1:1", **changes))
    assert "\n" not in str(caught.value)


def test_a_folder_of_whole_policies_is_not_one_of_critics(checkpoint, bags, tmp_path):
    write_untrained(tmp_path / "critics", ROBOT, small=True)
    with (
        server(checkpoint, tmp_path) as process,
        pytest.raises(AloeError, match="holds a policy of its own: name another --out"),
    ):
        train(request(bags, tmp_path, process.url))

"""Training runs that are stopped, killed or shared among processes, as real processes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aloe_core.episode.data import Source
from aloe_core.errors import AloeError
from aloe_critic.trainer import TrainRequest, train

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "src" / "aloe_core" / "test"))
import bagmaker

CONTRACT = str(ROOT / "config" / "robots" / "aloha_sim.yaml")
STEPS = {"bc_steps": 40, "bc_head_steps": 60}
TINY = {"threads": 1, "width_head": 16, "keypoints": 4, "bc_batch": 4, "head_batch": 8, **STEPS}


@pytest.fixture
def bags(tmp_path, monkeypatch):
    """A folder with one good demonstration."""
    picture = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))[1].tobytes()
    monkeypatch.setattr(bagmaker, "jpeg", lambda camera, frame: picture)
    folder = tmp_path / "bags"
    folder.mkdir()
    demonstration(folder, "first")
    return folder


def demonstration(folder, name):
    take = bagmaker.Take(folder, name)
    take.run(40, source=int(Source.HUMAN))
    return take.writer.close(bagmaker.labels(steps=40))


def request(bags, out, **changes):
    return TrainRequest([str(bags)], str(out), CONTRACT, **({"method": "bc", "overrides": TINY} | changes))


def start(asked: TrainRequest, *before: str) -> subprocess.Popen:
    Path(asked.checkpoint_dir).mkdir(exist_ok=True)
    file = Path(asked.checkpoint_dir).with_suffix(".json")
    file.write_text(json.dumps(vars(asked)))
    return subprocess.Popen(
        [sys.executable, *before, "-m", "aloe_critic.trainer", "--request", str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(process, phase, step):
    """Return when the process has come so far in a phase."""
    for line in process.stdout:
        event = json.loads(line)
        if event.get("phase") == phase and event["step"] >= step:
            return
    raise AssertionError("the process ended first")


def weights(out: Path):
    return load_file(out / "v0001-bc" / "model.safetensors")


def test_sigterm_saves_and_the_same_request_goes_on_bit_for_bit(bags, tmp_path):
    train(request(bags, tmp_path / "whole"))
    asked = request(bags, tmp_path / "stopped")
    process = start(asked)
    wait_for(process, "cloning, head", 20)
    process.send_signal(signal.SIGTERM)
    last = json.loads(process.stdout.read().splitlines()[-1])
    assert process.wait(30) == 2 and "Training stopped at step" in last["error"]
    assert not (tmp_path / "stopped" / "v0001-bc").exists()

    demonstration(bags, "second")  # came too late for this run
    seen = []
    result = train(asked, lambda phase, step, *_: seen.append((phase, step)))
    assert result.episodes == 1
    assert min(step for phase, step in seen if phase == "cloning, head") >= 20, "goes on, does not start anew"
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
    assert train(request(bags, tmp_path / "stopped", init="v0001-bc")).episodes == 2


def test_a_killed_run_is_begun_again_and_another_request_does_not_go_on_with_it(bags, tmp_path):
    asked = request(bags, tmp_path / "out")
    process = start(asked)
    wait_for(process, "cloning, head", 10)  # the first phase is saved at its end
    process.kill()
    process.wait()
    seen = []
    train(request(bags, tmp_path / "out", overrides=TINY | {"seed": 7}), lambda *event: seen.append(event[:2]))
    assert ("cloning", 10) in seen, "another seed is another run"

    process = start(request(bags, tmp_path / "two"))
    wait_for(process, "cloning, head", 10)
    process.kill()
    process.wait()
    seen = []
    train(request(bags, tmp_path / "two"), lambda *event: seen.append(event[:2]))
    assert ("cloning", 10) not in seen and ("cloning, head", 10) in seen


def test_a_bag_that_a_stopped_run_learned_from_must_still_be_there(bags, tmp_path):
    process = start(request(bags, tmp_path / "out"))
    wait_for(process, "cloning, head", 10)
    process.kill()
    process.wait()
    label = next((bags / "first").glob("*.yaml"))
    kept = label.stat().st_mtime_ns
    os.utime(label, ns=(kept + 10**9, kept + 10**9))
    with pytest.raises(AloeError, match="first: changed since the run that goes on learned from it; start a fresh run"):
        train(request(bags, tmp_path / "out"))
    os.utime(label, ns=(kept, kept))
    (bags / "first").rename(tmp_path / "elsewhere")
    demonstration(bags, "second")
    with pytest.raises(AloeError, match="learned from this bag; it is gone, start a fresh run"):
        train(request(bags, tmp_path / "out"))
    assert train(request(bags, tmp_path / "out", fresh=True)).episodes == 1


def test_curves_are_there_for_tensorboard_and_an_ended_run_leaves_nothing_else(bags, tmp_path):
    train(request(bags, tmp_path / "out"))
    folder = tmp_path / "out" / ".runs" / "v0001-bc"
    assert [file.name.split(".")[0] for file in folder.iterdir()] == ["events"]
    events = EventAccumulator(str(folder)).Reload()
    figures = {f"figures/{name}" for name in ("bc_loss", "bc_windows", "episodes", "human_share")}
    assert set(events.Tags()["scalars"]) == {"loss/cloning", "loss/cloning, head"} | figures
    assert [(point.step, point.value) for point in events.Scalars("figures/human_share")] == [(1, 1.0)]
    assert [point.step for point in events.Scalars("loss/cloning")] == [9, 19, 29, 39]


@pytest.mark.slow
@pytest.mark.timeout(600)  # two processes that wait for each other at every step: minutes on a busy machine
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_publish_what_one_does(bags, tmp_path, parallel):
    train(request(bags, tmp_path / "one"))
    store = str(tmp_path / "store")
    process = start(
        request(bags, tmp_path / "two", overrides=TINY | {"parallel": parallel}, replay_dir=store),
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    )
    assert process.wait(400) == 0, process.stdout.read()
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=2e-2, atol=2e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_fit_the_critic_that_one_does(bags, tmp_path):
    few = TINY | {"critic_width": 16, "critic_batch": 16, "bank": 4, "value_samples": 4, "bc_steps": 4}
    few |= {"critic_steps": 20, "actor_steps": 2, "actor_head_steps": 4, "refresh_steps": 20, "bc_head_steps": 4}
    train(request(bags, tmp_path / "one", overrides=few))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    asked = request(bags, tmp_path / "one", overrides=few, method="aloe_takeover")
    train(asked)
    shared = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"
    process = start(dataclasses.replace(asked, checkpoint_dir=str(tmp_path / "two")), *shared)
    assert process.wait(400) == 0, process.stdout.read()
    one, two = (load_file(tmp_path / way / "v0002-aloe_takeover" / "critic.safetensors") for way in ("one", "two"))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=2e-2, atol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    ("before", "method", "ended", "last"),
    [
        (["bc"], "aloe_takeover", ["critic", "actor", "actor, head"], "critic on new policy"),
        # V is not part of a checkpoint: one that goes on begins with a phase more.
        (
            ["bc", "iql"],
            "iql",
            ["value of the critic so far", "critic and value", "actor", "actor, head"],
            "critic on new features",
        ),
    ],
)
def test_a_method_killed_in_its_last_phase_goes_on_bit_for_bit(bags, tmp_path, before, method, ended, last):
    few = TINY | {"critic_width": 16, "critic_batch": 16, "bank": 4, "value_samples": 4, "value_steps": 10}
    few |= {"critic_steps": 10, "actor_steps": 2, "actor_head_steps": 10, "refresh_steps": 200}
    asked = {}
    for out in (tmp_path / "whole", tmp_path / "killed"):
        for earlier in before:
            train(request(bags, out, method=earlier, overrides=few))
        asked[out.name] = TrainRequest([str(bags)], str(out), CONTRACT, method=method, overrides=few)
    train(asked["whole"])
    process = start(asked["killed"])
    wait_for(process, last, 20)
    process.kill()
    process.wait()
    version = f"v{len(before) + 1:04d}-{method}"
    assert not (tmp_path / "killed" / version).exists()
    seen = []
    train(asked["killed"], lambda phase, *_: seen.append(phase))
    # A phase that had ended is told once, where it ended.
    assert [seen.count(phase) for phase in ended] == [1] * len(ended)
    assert seen.count(last) > 10
    for file in ("model.safetensors", "critic.safetensors"):
        whole, again = (load_file(tmp_path / way / version / file) for way in asked)
        assert all(np.array_equal(whole[name], again[name]) for name in whole), file

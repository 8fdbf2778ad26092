"""Learning from poses of objects in place of pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aloe_core.errors import AloeError
from aloe_core.types import Observation
from aloe_critic.hyper import make_hyper
from aloe_critic.job import Job
from aloe_critic.learners import method
from aloe_critic.replay.objects import ObjectReplay
from aloe_critic.trainer import publish
from aloe_policy.runtime import load_models, load_runtime
from synthetic import reach_episode, small_contract

CONTRACT = small_contract()
HYPER = {"width_head": 48, "bc_steps": 20, "bc_batch": 32, "bc_head_steps": 300, "head_batch": 64, "threads": 1}


def episode(seed):
    """An episode whose target stands in two numbers; a picture is not kept."""
    ep = reach_episode(CONTRACT, seed)
    goal = ep.executed[-1]
    return replace(ep, frames={}, objects=np.tile(goal, (ep.steps + 1, 1)).astype(np.float32))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    replay = ObjectReplay(CONTRACT, stride=5, buckets=512)
    for seed in range(12):
        replay.add(episode(seed))
    job = Job(CONTRACT, replay, make_hyper(HYPER), lambda *_: None)
    root = tmp_path_factory.mktemp("objects")
    return publish(root, "bc", method("bc")(job), job.hyper, CONTRACT, "")


def test_rows_hold_what_was_seen_at_their_step():
    replay = ObjectReplay(CONTRACT, stride=5, buckets=512)
    for seed in (0, 1):
        replay.add(episode(seed))
    batch = replay.batch(torch.arange(replay.rows))
    assert batch.images is None and batch.objects is not None and batch.objects.shape == (replay.rows, 2)
    first, last = episode(0), episode(1)
    np.testing.assert_array_equal(batch.objects[0], first.objects[0])
    np.testing.assert_array_equal(batch.objects[-1], last.objects[-1])
    np.testing.assert_array_equal(batch.state[-1], last.state[-1])


def test_a_policy_of_objects_goes_where_they_say_and_survives_its_checkpoint(checkpoint):
    runtime = load_runtime(checkpoint, CONTRACT)
    assert load_models(checkpoint, CONTRACT).policy.config.cameras == ()
    ends = []
    for seed in (20, 21):
        ep = episode(seed)
        answer = runtime.infer(Observation(0, {}, ep.state[0], ep.instruction, seed=1, objects=ep.objects[0]))
        ends.append((answer.chunk.actions[-1] - ep.state[0], ep.executed[-1] - ep.state[0]))
    for moved, wanted in ends:
        assert moved @ wanted / (np.linalg.norm(moved) * np.linalg.norm(wanted)) > 0.7, "towards the goal"


def test_what_lacks_objects_is_refused_in_a_sentence(checkpoint):
    with pytest.raises(AloeError, match="says nothing of objects"):
        ObjectReplay(CONTRACT, stride=5, buckets=512).add(reach_episode(CONTRACT, 0))
    picture = {"top": np.zeros((32, 32, 3), np.uint8)}
    with pytest.raises(AloeError, match="in place of images"):
        load_runtime(checkpoint, CONTRACT).infer(Observation(0, picture, np.zeros(2, np.float32), "go", seed=1))

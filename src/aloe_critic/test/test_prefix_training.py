"""`prefix` as a hyperparameter: what clones learn to be given, what improves them keeps, and off changes nothing."""

from __future__ import annotations

import pytest
import torch

from aloe_core.errors import AloeError
from aloe_critic.hyper import make_hyper
from aloe_critic.job import Job
from aloe_critic.learners import bc, hil_serl, recap
from aloe_critic.replay import Replay
from synthetic import reach_episode, small_contract

SMALL = {
    "keypoints": 4, "width_head": 32, "bc_steps": 3, "bc_batch": 8, "bc_head_steps": 3, "head_batch": 16, "threads": 1,
}  # fmt: skip


def job_of(**overrides):
    torch.manual_seed(0)
    replay = Replay(small_contract(), stride=5, buckets=512)
    replay.add(reach_episode(small_contract(), 1))
    return Job(small_contract(), replay, make_hyper(SMALL | overrides), lambda *_: None)


def test_a_clone_that_can_be_given_steps_can_be_given_half_of_the_horizon():
    policy = bc.learn(job_of(prefix=True)).policy
    assert policy.config.prefix == 5
    assert policy.head.given.weight.abs().sum() > 0, "it was trained"


def test_off_is_the_default_and_leaves_no_trace_in_a_checkpoint():
    policy = bc.learn(job_of()).policy
    assert policy.config.prefix == 0 and not [n for n in policy.state_dict() if "given" in n]


def test_recap_keeps_it_and_a_gaussian_actor_drops_it():
    policy = bc.learn(job_of(prefix=True)).policy
    said = recap.conditioned(policy, 1.5)
    assert torch.equal(said.head.given.weight, policy.head.given.weight)
    assert hil_serl.gaussian(policy).config.prefix == 0


def test_a_policy_cloned_without_cannot_be_given_steps_later():
    job = job_of(prefix=True)
    job.policy = bc.learn(job_of()).policy
    with pytest.raises(AloeError, match="prefix = True: the policy to go on from was cloned without"):
        bc.learn(job)

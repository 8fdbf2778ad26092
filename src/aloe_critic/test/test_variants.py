"""Every named variant runs, changes what it says, and leaves the warm start alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aloe_core.errors import AloeError
from aloe_critic import variants
from aloe_critic.hyper import make_hyper
from aloe_critic.job import Job
from aloe_critic.learners import bc, hyper_of
from aloe_critic.learners import method as find_method
from aloe_critic.replay import Replay
from synthetic import mixed_episode, reach_episode, small_contract

CONTRACT = small_contract()
TINY = {
    "keypoints": 4, "width_head": 16, "bc_steps": 2, "bc_batch": 8, "bc_head_steps": 2, "head_batch": 8, "threads": 1,
    "critic_width": 16, "critic_layers": 2, "critic_batch": 16, "critic_steps": 2, "actor_steps": 1, "refresh_steps": 1,
    "actor_head_steps": 2, "bank": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def replay():
    replay = Replay(CONTRACT, stride=5, buckets=512)
    for ep in (reach_episode(CONTRACT, 0), mixed_episode(CONTRACT, 1)):
        replay.add(ep)
    return replay


def clone(replay, changes):
    torch.manual_seed(0)
    return bc.learn(Job(CONTRACT, replay, make_hyper(TINY | changes), lambda *_: None)).policy


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant_runs_from_the_warm_start_that_all_share(replay, name):
    changes = variants.overrides([name], CONTRACT, replay.stride)
    method = "aloe_select" if "aloe_select" in variants.VARIANTS[name].methods else "aloe_takeover"
    plain = hyper_of(method, TINY, CONTRACT)
    assert changes and all(getattr(plain, key) != value for key, value in changes.items()), "it changes something"
    warm, other = clone(replay, {}), clone(replay, changes)
    assert all(torch.equal(a, b) for a, b in zip(warm.parameters(), other.parameters(), strict=True))
    job = Job(CONTRACT, replay, hyper_of(method, TINY | changes, CONTRACT), lambda *_: None, policy=other)
    job = replace(job, warm_start=lambda: clone(replay, {}))
    learned = find_method(method)(job)
    assert learned.candidates == changes.get("candidates", 8)
    assert (learned.critic.long is not None) == (name == "distilled")


def test_names_are_split_and_what_makes_no_sense_is_one_sentence():
    assert variants.split("aloe_select+priors+n16") == ("aloe_select", ["priors", "n16"])
    assert variants.split("bc") == ("bc", [])
    with pytest.raises(AloeError, match=r"variant = 'prior': expected one of shared, .* Did you mean 'priors'\?"):
        variants.split("aloe+prior")
    with pytest.raises(AloeError, match="'n4' changes nothing in aloe, but in aloe_select, aloe_takeover, mc"):
        variants.split("aloe+n4")
    with pytest.raises(AloeError, match="names 'priors' twice"):
        variants.split("aloe+priors+priors")
    with pytest.raises(AloeError, match="n4 and n16: both change candidates"):
        variants.overrides(["n4", "n16"], CONTRACT, 5)


def test_distilled_takes_the_longest_chunk_that_fits_stride_and_horizon():
    contract = small_contract(horizon=16, execute=6)
    assert variants.overrides(["distilled"], contract, 5) == {"long_chunk": 15}

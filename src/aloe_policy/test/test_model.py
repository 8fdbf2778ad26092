"""The native policy and the chunk critic: shapes, inverses, masks, and loading that refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from aloe_core.checkpoint import write_checkpoint
from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_core.types import Observation, Plan
from aloe_policy.chunking import Chunking
from aloe_policy.config import FlowConfig
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.knots import interpolation, knot_rows
from aloe_policy.model import FlowPolicy, ObsBatch
from aloe_policy.runtime import FlowRuntime, Models, load_models, load_runtime
from aloe_policy.text import MAX_WORDS, tokenize

CONTRACT = load_contract(Path(__file__).parents[3] / "config" / "robots" / "aloha_sim.yaml")
CONFIG = FlowConfig.for_contract(CONTRACT, keypoints=4, width_head=32, blocks_head=2)


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    policy = FlowPolicy(CONFIG).eval()
    policy.knot_mean.normal_(0, 0.1)
    policy.knot_std.uniform_(0.5, 2)
    return policy


@pytest.fixture(scope="module")
def critic(policy):
    torch.manual_seed(1)
    return ChunkCritic(CriticConfig(feature_dim=policy.feature_dim, action_dim=14, steps=10, heads=3, width=16)).eval()


@given(st.integers(1, 60), st.integers(1, 20))
def test_interpolation_passes_through_every_knot_and_sums_to_one(steps, stride):
    matrix = interpolation(steps, stride)
    rows = knot_rows(steps, stride)
    assert rows[0] == 0 and rows[-1] == steps - 1 and len(set(rows)) == len(rows)
    torch.testing.assert_close(matrix.sum(1), torch.ones(steps))
    torch.testing.assert_close(matrix[rows], torch.eye(len(rows)))


def test_actions_survive_encoding_where_they_are_linear_between_knots(policy):
    state = torch.randn(2, 14)
    chunks = torch.linspace(0, 1, 30)[None, None, :, None] * torch.randn(2, 3, 1, 14)
    decoded = policy.decode_actions(policy.encode_actions(chunks, state), state)
    torch.testing.assert_close(decoded, chunks, atol=1e-5, rtol=1e-4)


def test_steps_that_never_ran_do_not_change_the_loss(policy):
    z, state, chunks = torch.randn(2, policy.feature_dim), torch.randn(2, 14), torch.randn(2, 30, 14)
    length = torch.tensor([7, 7])
    losses = []
    for tail in (0.0, 100.0):
        other = chunks.clone()
        other[:, 7:] += tail
        torch.manual_seed(3)
        losses.append(policy.flow_loss(z, state, other, length))
    # Masked knots still reach the network's input, so only their error may not count: compare with the mask lifted.
    torch.manual_seed(3)
    whole = policy.flow_loss(z, state, other, torch.tensor([30, 30]))
    assert (losses[1] < whole / 20).all()


def test_samples_depend_on_the_generator_only(policy):
    z = torch.randn(1, policy.feature_dim)
    draws = [policy.sample_knots(z, 2, torch.Generator().manual_seed(s)) for s in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_features_follow_picture_text_and_state(policy):
    images = torch.randint(0, 255, (1, 3, 3, 96, 96), dtype=torch.uint8)
    words = torch.tensor([tokenize("put it away", CONFIG.text_buckets)])
    base = policy.features(ObsBatch(images, torch.zeros(1, 14), words))
    assert base.shape == (1, policy.feature_dim)
    others = (
        ObsBatch(255 - images, torch.zeros(1, 14), words),
        ObsBatch(images, torch.ones(1, 14), words),
        ObsBatch(images, torch.zeros(1, 14), torch.tensor([tokenize("leave it", CONFIG.text_buckets)])),
    )
    for other in others:
        assert not torch.allclose(base, policy.features(other))


def test_words_have_stable_ids_within_the_table():
    ids = tokenize("Put the RED block, into the bin " + "x " * 40, 512)
    assert len(ids) == MAX_WORDS and all(1 <= i < 512 for i in ids)
    assert ids == tokenize("put the red block into the bin " + "x " * 40, 512)
    assert ids[1] == ids[5]


def test_critic_scores_candidates_as_it_would_score_each_alone(critic, policy):
    z, anchor, chunks = torch.randn(2, policy.feature_dim), torch.randn(2, 14), torch.randn(2, 5, 30, 14)
    length = torch.tensor([10, 4])
    q = critic(z, critic.encode(chunks, anchor, length))
    assert q.shape == (3, 2, 5)
    for n in range(5):
        alone = critic(z, critic.encode(chunks[:, n : n + 1], anchor, length))
        torch.testing.assert_close(q[:, :, n : n + 1], alone)


def test_critic_sees_the_executed_prefix_only_and_how_long_it_was(critic, policy):
    z, anchor, chunks = torch.randn(1, policy.feature_dim), torch.randn(1, 14), torch.randn(1, 1, 30, 14)
    other = chunks.clone()
    other[:, :, 6:] += 3.0
    short, full = torch.tensor([6]), torch.tensor([10])
    same = [critic(z, critic.encode(c, anchor, short)) for c in (chunks, other)]
    assert torch.equal(same[0], same[1])
    assert not torch.allclose(critic(z, critic.encode(chunks, anchor, full)), same[0])


def test_heads_of_the_ensemble_share_no_weights(critic, policy):
    z, tokens = torch.randn(4, policy.feature_dim), torch.randn(4, 1, critic.act.in_features)
    critic.zero_grad()
    critic(z, tokens)[0].sum().backward()
    hidden, first = critic.hidden[0].weight.grad, critic.obs.weight.grad.view(3, 16, -1)
    assert hidden[0].abs().sum() > 0 and hidden[1:].abs().sum() == 0
    assert first[0].abs().sum() > 0 and first[1:].abs().sum() == 0


@pytest.fixture
def checkpoint(policy, critic, tmp_path):
    """Return a function that writes a checkpoint, changed as asked."""

    def write(change=lambda tensors: tensors, contract_hash=CONTRACT.hash, candidates=8, **config):
        tensors = change({k: v.clone() for k, v in policy.state_dict().items()})
        return write_checkpoint(
            tmp_path,
            "v1",
            {
                "model.safetensors": lambda p: save_file(tensors, p),
                "critic.safetensors": lambda p: save_file(dict(critic.state_dict()), p),
            },
            config={
                "policy": CONFIG.model_dump(mode="json") | config,
                "critic": critic.config.model_dump(mode="json"),
                "candidates": candidates,
            },
            norm={},
            contract_hash=contract_hash,
            step=1,
            parent="",
            method="aloe_select",
            metrics={},
        )

    return write


def observation(**changes):
    images = {c.name: np.zeros((c.height, c.width, 3), np.uint8) for c in CONTRACT.cameras}
    return Observation(
        **({"stamp": 5, "images": images, "state": np.zeros(14, np.float32), "instruction": "go"} | changes)
    )


def test_runtime_sends_the_candidate_with_the_highest_pessimistic_value(checkpoint, policy, critic):
    path = checkpoint()
    runtime = load_runtime(path, CONTRACT)
    answer = runtime.infer(observation(seed=3))
    state = torch.zeros(1, 14)
    words = torch.tensor([tokenize("go", CONFIG.text_buckets)])
    with torch.inference_mode():
        z = policy.features(ObsBatch(torch.zeros(1, 3, 3, 96, 96, dtype=torch.uint8), state, words))
        knots = policy.sample_knots(z, 8, torch.Generator().manual_seed(3 * 1_000_003))
        low, high = torch.tensor(CONTRACT.lower).float(), torch.tensor(CONTRACT.upper).float()
        chunks = policy.decode_actions(knots, state).clamp(low, high)
        q = critic(z, critic.encode(chunks, state, torch.tensor([10])))[:, 0].min(0).values
    np.testing.assert_allclose(answer.chunk.actions, chunks[0, q.argmax()], atol=1e-5)
    assert answer.value.q_min == pytest.approx(float(q.max()), abs=1e-5)
    assert answer.value.v == pytest.approx(float(q.mean()), abs=1e-5)
    assert answer.candidates == 8 and answer.chunk.execute == CONTRACT.chunk.execute
    np.testing.assert_allclose(runtime.judge(observation(seed=3), chunks[0].numpy()), q, atol=1e-5)
    bare = FlowRuntime(replace(load_models(path, CONTRACT), critic=None), CONTRACT)
    with pytest.raises(AloeError, match="has no critic"):
        bare.judge(observation(), chunks[0].numpy())


def test_runtime_repeats_itself_for_the_same_seed_and_chunk_number(checkpoint):
    runtime = load_runtime(checkpoint(), CONTRACT)
    first, again, later = (runtime.infer(observation(seed=1, chunk_number=n)).chunk.actions for n in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, later)


def test_runtime_under_rtc_says_what_was_frozen_and_ignores_plans_otherwise(checkpoint):
    path = checkpoint()
    plan = Plan(np.full((20, 14), 0.02, np.float32), 5)
    free, plain, guided = (
        load_runtime(path, CONTRACT, chunking=Chunking(mode)).infer(observation(plan=given)).chunk
        for mode, given in (("receding", None), ("receding", plan), ("rtc", plan))
    )
    assert np.array_equal(free.actions, plain.actions) and plain.frozen_steps == 0
    assert guided.frozen_steps == 5
    np.testing.assert_array_equal(guided.actions[:5], plan.actions[:5])
    assert np.abs(guided.actions[5] - plan.actions[5]).max() < np.abs(plain.actions[5] - plan.actions[5]).max()


def test_plan_that_does_not_fit_is_refused(checkpoint):
    runtime = load_runtime(checkpoint(), CONTRACT, chunking=Chunking("rtc"))
    with pytest.raises(AloeError, match=r"plan of shape \(4, 3\): expected finite rows of 14"):
        runtime.infer(observation(plan=Plan(np.zeros((4, 3), np.float32), 2)))


def test_a_policy_that_is_no_flow_cannot_be_guided(checkpoint):
    net = FlowPolicy(CONFIG.model_copy(update={"head": "gaussian"}))
    models = Models(net, None, {}, "v1", checkpoint())
    with pytest.raises(AloeError, match="'rtc' guides a flow, which this one has not"):
        FlowRuntime(models, CONTRACT, chunking=Chunking("rtc"))


def test_steps_are_not_given_to_a_policy_that_was_not_trained_so(checkpoint):
    with pytest.raises(AloeError, match="'prefix' needs a policy trained for it"):
        load_runtime(checkpoint(), CONTRACT, chunking=Chunking("prefix"))


def test_runtime_gives_the_plan_to_a_policy_that_can_be_given_it(checkpoint):
    torch.manual_seed(0)
    models = Models(FlowPolicy(CONFIG.model_copy(update={"prefix": 15})), None, {}, "v1", checkpoint())
    plan = Plan(np.full((20, 14), 0.02, np.float32), 15)
    chunk = FlowRuntime(models, CONTRACT, chunking=Chunking("prefix")).infer(observation(plan=plan)).chunk
    assert chunk.frozen_steps == 15
    np.testing.assert_array_equal(chunk.actions[:15], plan.actions[:15])


def test_method_with_one_candidate_stays_with_one(checkpoint):
    assert load_runtime(checkpoint(candidates=1), CONTRACT, candidates=8).infer(observation()).candidates == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"change": lambda t: {k: v for k, v in t.items() if k != "knot_std"}}, "tensor 'knot_std' is missing"),
        ({"change": lambda t: t | {"extra": torch.zeros(1)}}, "tensor 'extra' is not expected"),
        ({"change": lambda t: t | {"knot_std": torch.zeros(3)}}, "knot_std has shape"),
        ({"change": lambda t: t | {"knot_mean": t["knot_mean"] * float("nan")}}, "not finite"),
        ({"contract_hash": "0" * 16}, "contract_hash"),
        ({"horizon": 20}, "policy.horizon = 20: expected 30"),
        ({"widht": 3}, "not the configuration"),
        ({"candidates": "many"}, "candidates = 'many'"),
    ],
)
def test_checkpoint_that_does_not_fit_is_refused_in_one_sentence(checkpoint, changes, words):
    with pytest.raises(AloeError, match=words) as caught:
        load_runtime(checkpoint(**changes), CONTRACT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": {}}, "no image of camera 'top'"),
        ({"state": np.zeros(3, np.float32)}, "joint state of shape"),
        ({"state": np.full(14, np.nan, np.float32)}, "finite"),
    ],
)
def test_observation_that_does_not_fit_the_contract_is_refused(checkpoint, changes, words):
    with pytest.raises(AloeError, match=words):
        load_runtime(checkpoint(), CONTRACT).infer(observation(**changes))


def test_saved_and_loaded_policy_is_the_same(checkpoint, policy):
    stored = load_file(checkpoint() / "model.safetensors")
    assert all(torch.equal(stored[k], v) for k, v in policy.state_dict().items())


def test_cameras_of_different_sizes_are_refused_when_the_policy_is_loaded(checkpoint):
    wide = CONTRACT.cameras[0].model_copy(update={"width": 640, "height": 480})
    mixed = CONTRACT.model_copy(update={"cameras": (wide, *CONTRACT.cameras[1:])})
    with pytest.raises(AloeError, match="cameras of 640x480, 96x96: expected one size"):
        load_runtime(checkpoint(contract_hash=mixed.hash), mixed)

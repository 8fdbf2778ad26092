"""Every method on a tiny replay: it trains, its checkpoint drives, it repeats itself, it says what it lacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aloe_core.checkpoint import read_manifest
from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_core.types import Observation
from aloe_critic.hyper import make_hyper
from aloe_critic.job import Job
from aloe_critic.learners import METHODS, OWN, hyper_of, method, recap
from aloe_critic.learners.select import imitated_rows
from aloe_critic.loop import Loop
from aloe_critic.replay import Replay
from aloe_critic.returns import successors, taken_over
from aloe_critic.trainer import publish
from aloe_policy.runtime import load_models, load_runtime
from synthetic import mixed_episode, reach_episode, small_contract

QUIET = lambda *_: None  # noqa: E731
TINY = {
    "keypoints": 4,
    "width_head": 16,
    "critic_width": 16,
    "critic_layers": 2,
    "value_width": 16,
    "threads": 1,
    "bc_batch": 8,
    "head_batch": 16,
    "critic_batch": 16,
    "bank": 4,
    "value_samples": 4,
} | dict.fromkeys(
    ("bc_steps", "bc_head_steps", "actor_steps", "actor_head_steps", "critic_steps", "refresh_steps", "serl_steps"), 3
)
TINY |= {"value_steps": 3, "serl_warmup": 3, "serl_clone_steps": 3}
TINY |= {"serl_imitation": 0.1}  # else nearly all of the golden loss is its pull
CONTRACT = small_contract()
CRITICS = {"aloe", "aloe_select", "aloe_takeover", "iql", "td1", "mc", "qc", "hil_serl"}
CANDIDATES = {"aloe_select": 8, "aloe_takeover": 8, "mc": 8, "qc": 32}


def episodes():
    """Two demonstrations, a success and a failure of a policy, and an episode with a takeover."""
    return [
        reach_episode(CONTRACT, 0),
        reach_episode(CONTRACT, 1),
        reach_episode(CONTRACT, 2, source=Source.POLICY),
        reach_episode(CONTRACT, 3, source=Source.POLICY, outcome=Outcome.FAILURE, noise=0.8),
        mixed_episode(CONTRACT, 4),
    ]


def job_of(taken, **overrides):
    torch.manual_seed(0)
    replay = Replay(CONTRACT, stride=5, buckets=512)
    for episode in taken:
        replay.add(episode)
    return Job(CONTRACT, replay, make_hyper(TINY | overrides), QUIET)


def clone(root, **overrides):
    """Publish the clone that methods start from, and return the folder."""
    job = job_of(episodes(), **overrides)
    publish(root, "bc", method("bc")(job), job.hyper, CONTRACT, "")
    return root


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder with the checkpoint of a clone."""
    return clone(tmp_path_factory.mktemp("checkpoints"))


def learn(name, warm, start="v0001-bc", **overrides):
    job = job_of(episodes(), **(OWN.get(name, {}) | overrides))
    job.start_from(load_models(warm / start, CONTRACT))
    return job, method(name)(job)


@pytest.mark.parametrize("name", METHODS)
def test_method_trains_and_its_checkpoint_drives(name, warm):
    job, learned = learn(name, warm)
    path = publish(warm, name, learned, job.hyper, CONTRACT, "v0001-bc")
    runtime = load_runtime(path, CONTRACT, candidates=64)
    picture = {"top": np.zeros((32, 32, 3), np.uint8)}
    answer = runtime.infer(Observation(0, picture, np.zeros(2, np.float32), "touch the dot", seed=1))
    assert answer.chunk.actions.shape == (10, 2) and np.isfinite(answer.chunk.actions).all()
    assert answer.candidates == CANDIDATES.get(name, 1)
    assert (answer.value is not None) == (name in CRITICS)
    assert read_manifest(path).method == name

    # The next iteration goes on from there, and sees that its critic is of the same kind.
    job, again = learn(name, warm, path.name)
    assert again.critic is None or again.critic is job.critic


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_gives_the_same_weights(name, warm):
    first, second = (learn(name, warm)[1] for _ in range(2))
    for one, other in ((first.policy, second.policy), (first.critic, second.critic)):
        if one is not None:
            assert all(torch.equal(tensor, other.state_dict()[n]) for n, tensor in one.state_dict().items())


def test_a_bad_batch_is_kept_with_what_it_holds(warm, tmp_path):
    job = job_of(episodes())
    job.start_from(load_models(warm / "v0001-bc", CONTRACT))
    job.loop = Loop(QUIET, tmp_path)
    assert job.policy is not None
    with torch.no_grad():
        job.policy.knot_mean.fill_(float("nan"))
    with pytest.raises(AloeError, match=r"after one return to a good state; its batch is in .*bad_batch\.safetensors"):
        method("aloe")(job)
    kept = load_file(tmp_path / "bad_batch.safetensors")
    assert {name: len(tensor) for name, tensor in kept.items()} == {"window": 16, "z": 16, "chunk": 16, "y": 1}
    assert kept["y"].shape == (1, 16) and kept["y"].isnan().all()


@pytest.mark.parametrize("name", METHODS)
def test_every_phase_keeps_its_batch_for_whoever_looks_into_a_bad_step(name, warm, monkeypatch):
    phases = []
    run = Loop.run
    monkeypatch.setattr(Loop, "run", lambda loop, phase: (phases.append(phase), run(loop, phase))[1])
    job, _ = learn(name, warm)
    sizes = {job.hyper.bc_batch, job.hyper.head_batch, job.hyper.critic_batch}
    assert phases and all({"window"} < set(phase.batch) for phase in phases)
    assert {len(phase.batch["window"]) for phase in phases} <= sizes


# Three steps of each phase from seed 0 in float32. A change of these is a change of what is learned: say so where you
# make it, and why.
GOLDEN = {
    "bc": {"bc_loss": 2.53153},
    "filtered_bc": {"actor_loss": 7.33204},
    "hg_dagger": {"actor_loss": 5.442},
    "awr": {"value_loss": 5.57655, "beta": 0.6161, "advantage_human": 0.51871, "actor_loss": 4.57881},
    "recap": {"value_loss": 5.25815, "threshold": 0.17948, "positive": 0.7, "actor_loss": 2.97079},
    "aloe": {"critic_loss": 3.96636, "q_mean": -2.02803, "advantage_human": 0.01563, "actor_loss": 3.69783},
    "aloe_takeover": {"beta": 0.57935, "effective_size": 0.19667, "advantage_human": -0.02052, "actor_loss": 1.97068},
    "iql": {"critic_loss": 2.59443, "advantage_human": -0.41213, "actor_loss": 2.25643},
    "mc": {"critic_loss": 8.26555, "q_mean": -2.00446, "actor_loss": 3.0454, "critic_loss_new_policy": 11.49453},
    "qc": {"actor_loss": 9.03793, "critic_loss": 1.58603, "q_mean": -1.9479},
    "hil_serl": {"loss": 14.66287, "temperature": 0.00999},
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_seeded_run_is_what_it_was(name, tmp_path):
    _, learned = learn(name, clone(tmp_path, precision="float32"), precision="float32")
    found = {key: learned.metrics[key] for key in GOLDEN[name]}
    assert found == pytest.approx(GOLDEN[name], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("bc", "hil_serl")])
def test_method_that_improves_a_policy_needs_one(name):
    with pytest.raises(AloeError, match="--method bc first"):
        method(name)(job_of(episodes()))


HELD = reach_episode(CONTRACT, 1, source=Source.HOLD)
UNLABELLED = reach_episode(CONTRACT, 2, source=Source.POLICY, outcome=Outcome.ABORTED)
FAILED = reach_episode(CONTRACT, 3, source=Source.POLICY, outcome=Outcome.FAILURE)


@pytest.mark.parametrize(
    ("name", "taken", "words"),
    [
        ("bc", [FAILED], "no successful demonstration"),
        ("filtered_bc", [FAILED], "no successful episode and no correction"),
        ("hg_dagger", [FAILED, UNLABELLED], "no successful demonstration and no human segment"),
        ("awr", [UNLABELLED], "label at least one episode"),
        ("mc", [UNLABELLED], "label at least one episode"),
        ("recap", [UNLABELLED], "label at least one episode"),
        ("recap", [reach_episode(CONTRACT, 0)], "record rollouts first"),
        ("hil_serl", [reach_episode(CONTRACT, 0)], "what a policy did: record rollouts first"),
        ("hil_serl", [FAILED], "what a person did: record demonstrations first"),
        ("aloe", [HELD], "no step of a policy or a person"),
        ("iql", [HELD], "no step of a policy or a person"),
        ("qc", [HELD], "no step of a policy or a person"),
        ("awr", [HELD], "no step of a policy or a person"),
    ],
)
def test_data_that_a_method_cannot_learn_from_is_named_in_one_sentence(name, taken, words, warm):
    job = job_of(taken)
    job.start_from(load_models(warm / "v0001-bc", CONTRACT))
    if name == "bc":
        job.policy = None
    with pytest.raises(AloeError, match=words) as caught:
        method(name)(job)
    assert "\n" not in str(caught.value)


def test_a_method_has_hyperparameters_of_its_own_and_what_is_asked_for_counts_more():
    own = hyper_of("aloe_takeover", TINY, CONTRACT)
    assert (own.takeover, own.continuation, own.imitated, own.advantage_of) == ("never", "segment", "unaided", "heads")
    asked = hyper_of("aloe_takeover", TINY | {"takeover": "bootstrap"}, CONTRACT)
    assert asked.takeover == "bootstrap" and asked.imitated == "unaided"
    assert hyper_of("aloe_select", TINY, CONTRACT) == make_hyper(TINY).on(CONTRACT)
    with pytest.raises(AloeError, match="no hyperparameter 'take_over'"):
        hyper_of("aloe_takeover", {"take_over": "never"}, CONTRACT)


def at(rate_hz, horizon=10, execute=5):
    contract = small_contract(horizon, execute)
    return contract.model_copy(update={"control": contract.control.model_copy(update={"rate_hz": rate_hz})})


def test_what_counts_control_steps_means_the_same_in_time_on_every_robot():
    for rate, execute, stride, ahead in (
        (50, 10, 5, 50),
        (25, 6, 2, 25),
        (100, 20, 10, 100),
        (5, 5, 1, 5),
        (50, 7, 1, 50),
    ):
        hyper = make_hyper({}).on(at(rate, 2 * execute, execute))
        assert (hyper.stride, hyper.recap_lookahead) == (stride, ahead)
        assert hyper.gamma**rate == pytest.approx(0.998**50)
    asked = make_hyper({"stride": 3, "gamma": 0.9, "recap_lookahead": 7}).on(at(25, 12, 6))
    assert (asked.stride, asked.gamma, asked.recap_lookahead) == (3, 0.9, 7)
    with pytest.raises(AloeError, match="stride = 6: expected at most the 5 steps"):
        make_hyper({"stride": 6}).on(CONTRACT)
    with pytest.raises(AloeError, match="stride = 5: continuation = 'segment' needs one that divides the 6 steps"):
        hyper_of("aloe_takeover", {"stride": 5}, at(25, 12, 6))


@pytest.mark.parametrize("execute", [4, 5, 6, 10])
def test_a_correction_is_followed_to_its_end_whatever_a_chunk_executes(execute):
    contract = at(25, 12, execute)
    hyper = hyper_of("aloe_takeover", TINY, contract)
    replay = Replay(contract, hyper.stride, 512)
    replay.add(mixed_episode(contract, 0))  # a person drives from step 20 to 40
    windows = replay.windows(gamma=1, max_length=1, failure_cost=1)
    person = windows.source == int(Source.HUMAN)
    goes_on = windows.discount > 0
    assert (successors(windows)[person & goes_on] >= 0).all() and (person & goes_on).any()
    begins = {int(windows.obs[row]) for row in person.nonzero()}
    lost = taken_over(windows)
    assert lost.any() and {int(row) for row in windows.next_obs[lost]} == {min(begins)}


def test_filtered_weights_are_those_of_what_went_well_and_the_critic_still_sees_the_rest(warm):
    """One demonstration, one success and one failure of the policy, one episode with a correction that failed."""
    failed = replace(mixed_episode(CONTRACT, 5), outcome=Outcome.FAILURE)
    taken = [reach_episode(CONTRACT, 0), reach_episode(CONTRACT, 4, source=Source.POLICY), FAILED, failed]
    job = job_of(taken)
    windows = job.replay.windows(gamma=1, max_length=1, failure_cost=1)
    rows = imitated_rows(job.replay, windows, "aloe", "filtered")
    kept = {(int(windows.episode[row]), int(windows.source[row])) for row in rows}
    human, policy = int(Source.HUMAN), int(Source.POLICY)
    assert kept == {(0, human), (1, policy), (3, human)}
    assert set(rows.tolist()) < set(imitated_rows(job.replay, windows, "aloe", "all").tolist())

    job = job_of(taken, imitated="filtered")
    job.start_from(load_models(warm / "v0001-bc", CONTRACT))
    assert method("aloe")(job).metrics["windows"] == len(windows)

    job = job_of([FAILED, UNLABELLED], imitated="filtered")
    job.start_from(load_models(warm / "v0001-bc", CONTRACT))
    with pytest.raises(AloeError, match="no successful episode and no correction among the bags"):
        method("aloe")(job)


def test_unaided_is_what_a_policy_drove_to_success_after_the_last_takeover():
    """A policy from step 0, a person from 20, the policy again from 30 to the end at 40; windows every 5 steps."""
    returned = mixed_episode(CONTRACT, 5)
    returned.source[30:] = int(Source.POLICY)
    taken = [
        returned,
        replace(returned, outcome=Outcome.FAILURE),
        reach_episode(CONTRACT, 4, source=Source.POLICY),
        FAILED,
        reach_episode(CONTRACT, 0),
    ]
    replay = job_of(taken).replay
    windows = replay.windows(gamma=1, max_length=1, failure_cost=1)
    rows = imitated_rows(replay, windows, "aloe", "unaided")
    policy = windows.source[rows] == int(Source.POLICY)
    of_policy = [int((windows.episode[rows][policy] == episode).sum()) for episode in range(5)]
    assert of_policy == [2, 0, 8, 0, 0]
    of_person = [int((windows.episode[rows][~policy] == episode).sum()) for episode in range(5)]
    assert of_person == [2, 2, 0, 0, 8]
    assert windows.obs[rows][policy & (windows.episode[rows] == 0)].tolist() == [6, 7]
    with pytest.raises(AloeError, match="no successful episode and no correction"):
        replay = job_of([FAILED]).replay
        imitated_rows(replay, replay.windows(gamma=1, max_length=1, failure_cost=1), "aloe", "unaided")


def test_conditioned_and_gaussian_policies_are_not_continued_by_others(warm):
    for name, words in (("recap", "an indicator"), ("hil_serl", "a Gaussian head")):
        job, learned = learn(name, warm)
        job.policy = learned.policy
        with pytest.raises(AloeError, match=words):
            method("aloe")(job)


def test_recap_sets_its_threshold_in_each_task():
    """All of an easy task would else count as improvements, and nothing of a hard one."""
    easy, hard = (reach_episode(CONTRACT, seed, source=Source.POLICY) for seed in range(2))
    job = job_of([easy, replace(hard, task="other"), replace(reach_episode(CONTRACT, 2), task="shown")])
    windows = job.replay.windows(gamma=1, max_length=1, failure_cost=1)
    rollout = windows.source == int(Source.POLICY)
    advantage = torch.linspace(0, 1, len(windows)) + 10.0 * (windows.episode == 0)
    found = recap.thresholds(job.replay, windows, advantage, rollout, 0.6)
    expected = [advantage[windows.episode == episode].quantile(0.6).item() for episode in range(2)]
    assert found.tolist() == pytest.approx([*expected, float("inf")])


def test_recap_starts_from_the_first_clone_of_its_line(warm, monkeypatch):
    job, learned = learn("recap", warm)
    second = publish(warm, "recap", learned, job.hyper, CONTRACT, "v0001-bc")
    started = []
    monkeypatch.setattr(recap, "refit", lambda policy, *_, **__: started.append(policy) or (None, 0.0))
    learn("recap", warm, second.name)
    cloned = load_models(warm / "v0001-bc", CONTRACT).policy
    assert all(torch.equal(started[0].state_dict()[n], tensor) for n, tensor in cloned.state_dict().items())
    lonely = replace(load_models(second, CONTRACT), directory=warm / "nowhere" / second.name)
    with pytest.raises(AloeError):
        job.start_from(lonely)
        method("recap")(job)


def test_refit_from_the_warm_start_does_not_touch_the_current_policy(warm):
    job = job_of(episodes(), refit_from="warm_start")
    job.start_from(load_models(warm / "v0001-bc", CONTRACT))
    before = {n: t.clone() for n, t in job.policy.state_dict().items()}
    learned = method("aloe")(job)
    assert learned.policy is not job.policy
    assert all(torch.equal(before[n], t) for n, t in job.policy.state_dict().items())


@pytest.mark.parametrize(
    "switch",
    [
        {"shared_trunk": True},
        {"prior_scale": 0.3},
        {"scored": "chunk"},
        {"pessimism": "lcb"},
        {"pessimism": "quantile"},
        {"target": "own"},
        {"target": "quantile"},
        {"target_samples": 3, "target_pick": "max"},
    ],
)
def test_every_open_choice_of_the_paper_is_a_switch_and_survives_the_checkpoint(switch, warm):
    job, learned = learn("aloe_select", warm, **switch)
    path = publish(warm, "aloe_select", learned, job.hyper, CONTRACT, "v0001-bc")
    models = load_models(path, CONTRACT)
    assert models.critic.config == learned.critic.config
    assert all(torch.equal(models.critic.state_dict()[n], t) for n, t in learned.critic.state_dict().items())
    load_runtime(path, CONTRACT).infer(
        Observation(0, {"top": np.zeros((32, 32, 3), np.uint8)}, np.zeros(2, np.float32), "touch")
    )


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"gamma": 0.9}, False),
        ({"max_length": 100}, False),
        ({"failure_cost": 200}, False),
        ({"max_length": 40, "failure_cost": 40}, True),
    ],
)
def test_critic_of_other_units_is_not_continued(changes, kept, warm):
    job, learned = learn("aloe", warm)
    assert learned.reward_scale == (40, 40)
    path = publish(warm, "aloe", learned, job.hyper, CONTRACT, "v0001-bc")
    job, again = learn("aloe", warm, path.name, **changes)
    assert (again.critic is job.critic) == kept
    assert len(job.notes) == (not kept)
    for note in job.notes:
        assert all(f"{name} = " in note and f", now {value}" in note for name, value in changes.items())
    assert again.reward_scale == (changes.get("max_length", 40), changes.get("failure_cost", 40))


def test_critic_whose_heads_are_read_otherwise_is_continued(warm):
    job, learned = learn("aloe", warm)
    path = publish(warm, "aloe", learned, job.hyper, CONTRACT, "v0001-bc")
    job, again = learn("aloe", warm, path.name, pessimism="mean")
    assert again.critic is job.critic and job.notes == []
    q = torch.randn(5, 7, 1)
    assert torch.equal(again.critic.pessimistic(q), q.mean(0))


def test_a_new_v_of_iql_begins_with_what_its_critic_has_learned(warm, monkeypatch):
    job, learned = learn("iql", warm)
    assert "value_loss" not in learned.metrics, "nothing to begin with yet"
    with torch.no_grad():
        learned.critic.out.weight.zero_()
        learned.critic.out.bias.fill_(-0.3)  # Q of everything
    path = publish(warm, "iql", learned, job.hyper, CONTRACT, "v0001-bc")
    met = {}

    def kept(critic, value, policy, table, job, steps, phase):
        if phase == "critic and value":
            with torch.no_grad():
                met["v"] = value(table.z).mean().item()
        return 0.0

    monkeypatch.setattr("aloe_critic.learners.iql.fit_q_and_v", kept)
    learn("iql", warm, path.name, value_steps=300, critic_lr=1e-2)
    assert met["v"] == pytest.approx(-0.3, abs=0.1)


def test_critic_of_another_kind_is_not_continued(warm):
    job, learned = learn("td1", warm)
    job.policy, job.critic = learned.policy, learned.critic
    assert learned.critic.config.steps == 5 == job.replay.stride
    wide = replace(job, hyper=make_hyper(TINY | {"heads": 2}))
    assert method("aloe")(wide).critic.config.heads == 2
    assert len(job.notes) == 1 and "heads = 5, now 2" in job.notes[0]

"""The tables beside a store: made once for each bag, whole after any crash, right whoever else reads or writes."""

from __future__ import annotations

import fcntl
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aloe_core.episode.data import Outcome, Source
from aloe_core.episode.transitions import chunk_transitions
from aloe_core.errors import AloeError
from aloe_critic.replay import Replay, ReplayStore, index
from aloe_critic.replay.tables import Tables
from aloe_critic.replay.windows import score
from synthetic import mixed_episode, reach_episode, small_contract

CONTRACT = small_contract()
SCORES = {"gamma": 0.9, "max_length": 20.0, "failure_cost": 9.0}
EPISODES = [
    reach_episode(CONTRACT, 0),
    mixed_episode(CONTRACT, 1, takeover=13),
    replace(reach_episode(CONTRACT, 2, source=Source.POLICY, outcome=Outcome.FAILURE, steps=23), task="sort"),
    replace(reach_episode(CONTRACT, 3, outcome=Outcome.ABORTED), instruction="do nothing"),
    reach_episode(CONTRACT, 4, steps=31),
]
NAMES = [f"bag-{number}" for number in range(len(EPISODES))]


@pytest.fixture
def store(tmp_path):
    made = ReplayStore(tmp_path / "store", CONTRACT)
    with made.appending():
        for name, ep in zip(NAMES, EPISODES, strict=True):
            made.append(name, "1", ep)
    return made


def attached(store, names):
    replay = Replay(CONTRACT, 5, 64)
    replay.attach(ReplayStore(store.folder, CONTRACT), names)
    return replay


def in_memory(names):
    replay = Replay(CONTRACT, 5, 64)
    for name in names:
        replay.add(EPISODES[NAMES.index(name)])
    return replay


def assert_same(replay, names):
    """What learners see is what they would see of the same episodes in memory."""
    expected = in_memory(names)
    ours, theirs = replay.windows(**SCORES), expected.windows(**SCORES)
    for name in ("episode", "obs", "next_obs", "plan_length", "length", "reward", "discount", "source"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(ours.chunk[:], theirs.chunk[:])
    assert torch.equal(ours.chunk[[0, -1], 2:4], theirs.chunk[[0, -1], 2:4])
    rows = torch.arange(replay.rows)
    assert torch.equal(replay.pixels(rows), expected.pixels(rows))
    assert torch.equal(replay.state(), expected.state()) and torch.equal(replay.text(), expected.text())
    assert torch.equal(replay.lengths(), expected.lengths()) and replay.human_share() == expected.human_share()
    assert replay.tasks()[0] == expected.tasks()[0] and torch.equal(replay.tasks()[1], expected.tasks()[1])
    assert [ep.episode_id for ep in replay.episodes] == [ep.episode_id for ep in expected.episodes]
    for outcome in Outcome:
        assert torch.equal(replay.outcome(outcome), expected.outcome(outcome))


@pytest.fixture
def tabulated(monkeypatch):
    """Episodes whose rows were computed."""
    seen = []
    append = Tables.append
    monkeypatch.setattr(Tables, "append", lambda self, ep, *a, **k: (seen.append(ep.seed), append(self, ep, *a, **k)))
    return seen


def test_each_bag_is_tabulated_once_as_bags_come(store, tabulated):
    for count in (2, 2, 4, 3, 5):
        replay = attached(store, NAMES[:count])
        done, tabulated[:] = list(tabulated), []
        assert_same(replay, NAMES[:count])
        tabulated.clear()
        assert done == {2: [0, 1], 4: [2, 3], 3: [], 5: [4]}[count] or (count == 2 and done == [])


def test_another_choice_takes_the_place_and_who_reads_the_old_one_keeps_it(store, tabulated):
    before = attached(store, NAMES)
    chosen = [NAMES[3], NAMES[0]]
    tabulated.clear()
    assert_same(attached(store, chosen), chosen)
    assert_same(before, NAMES)


def test_a_bag_that_changed_is_tabulated_anew(store):
    attached(store, NAMES[:3])
    with store.appending():
        store.append(NAMES[1], "2", EPISODES[4])
    replay = attached(store, NAMES[:3])
    assert replay.lengths().tolist() == [40, 31, 23] and replay.episodes[1].seed == 4
    assert torch.equal(replay.windows(**SCORES).chunk[8:15], in_memory([NAMES[4]]).windows(**SCORES).chunk[:7])


def test_tables_that_another_process_is_making_are_made_without_a_name(store, tabulated):
    attached(store, NAMES[:2])
    with (store.folder / "view-5" / index.LOCK).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        tabulated.clear()
        replay = attached(store, NAMES)
        assert tabulated == [0, 1, 2, 3, 4]
        assert_same(replay, NAMES)
    tabulated.clear()
    attached(store, NAMES)
    assert tabulated == [2, 3, 4]


def test_a_process_killed_at_any_write_leaves_tables_that_are_gone_on_with(store, monkeypatch):
    """Every fsync and every write in turn, the write of half a record included."""
    monkeypatch.setattr(index, "COMMIT_EPISODES", 1)
    deaths = 0
    for moment in range(200):
        child = os.fork()
        if child == 0:
            left = moment

            def deadly(call):
                def run(*arguments):
                    nonlocal left
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
                    return call(*arguments)

                return run

            line = index.journal.line
            index.os.fsync = deadly(os.fsync)
            index.journal.line = deadly(line)
            attached(store, NAMES)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if moment % 10 == 0:
            assert_same(attached(store, NAMES), NAMES)
            index._clear(store.folder / "view-5")
        if not os.WIFSIGNALED(status):
            break
        deaths += 1
    assert deaths > 20
    assert_same(attached(store, NAMES), NAMES)


def test_a_torn_journal_and_a_short_column_count_as_never_written(store, tabulated):
    attached(store, NAMES)
    folder = store.folder / "view-5"
    journal = (folder / index.JOURNAL).read_bytes()
    for cut in range(0, len(journal), 61):
        (folder / index.JOURNAL).write_bytes(journal[:cut])
        assert_same(attached(store, NAMES), NAMES)
    os.truncate(folder / "executed.bin", 100)
    assert_same(attached(store, NAMES), NAMES)
    (folder / "state.bin").unlink()
    assert_same(attached(store, NAMES), NAMES)


def test_what_a_replay_has_let_go_of_is_read_again(store, monkeypatch):
    monkeypatch.setattr("aloe_critic.replay.view.RESIDENT_BYTES", 0)
    monkeypatch.setattr("aloe_critic.replay.view.RELEASE_ROWS", 3)
    assert_same(attached(store, NAMES), NAMES)


def test_a_replay_with_nothing_to_learn_from_says_so(store):
    with pytest.raises(AloeError, match="no episodes to learn from"):
        Replay(CONTRACT, 5, 64).windows(**SCORES)
    replay = Replay(CONTRACT, 5, 64)
    replay.add(replace(EPISODES[0], breaks=tuple(range(40))))
    with pytest.raises(AloeError, match="none of 1 episodes has a step"):
        replay.windows(**SCORES)
    with pytest.raises(AloeError, match="come from a store"):
        attached(store, NAMES).add(EPISODES[0])


@pytest.mark.parametrize("scores", [{"failure_cost": float("inf")}, {"gamma": float("nan")}])
def test_rewards_that_are_not_finite_are_refused_in_one_sentence(scores):
    with pytest.raises(AloeError, match=f"Rewards are not finite.*{next(iter(scores))}") as caught:
        in_memory(NAMES).windows(**(SCORES | scores))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["state", "executed"])
def test_an_episode_with_numbers_that_are_none_or_too_few_is_refused(name):
    bad = getattr(EPISODES[0], name).copy()
    bad[7, 1] = np.nan
    for value, words in ((bad, f"{name} is not finite at step 7"), (bad[:, :1], f"{name} has shape .*: expected")):
        with pytest.raises(AloeError, match=words):
            Replay(CONTRACT, 5, 64).add(replace(EPISODES[0], **{name: value}))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.integers(1, 60),
    outcome=st.sampled_from([Outcome.SUCCESS, Outcome.FAILURE, Outcome.ABORTED]),
    gamma=st.floats(0.5, 1.0),
    max_length=st.floats(1, 500),
    failure_cost=st.floats(0, 500),
)
def test_scores_are_those_of_the_transitions_to_the_last_bit(steps, outcome, gamma, max_length, failure_cost):
    ep = reach_episode(CONTRACT, 1, steps=steps, outcome=outcome)
    scores = {"gamma": gamma, "max_length": max_length, "failure_cost": failure_cost}
    t = chunk_transitions(ep, 5, stride=2, **scores)
    ending = torch.from_numpy(np.where(t.terminated, int(outcome), 0))
    reward, discount = score(torch.from_numpy(t.length), ending, 5, **scores)
    np.testing.assert_array_equal(reward.numpy(), t.reward)
    np.testing.assert_array_equal(discount.numpy(), t.discount)

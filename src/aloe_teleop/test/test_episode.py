import pytest

from aloe_core.episode.data import Outcome, Source
from aloe_teleop.episode import Episode

DT = 20_000_000


def episode(limit=0.2) -> Episode:
    return Episode("e1", "sorting", "sort", 3, "watch", 0.02, limit)


def run(e: Episode, steps: range, source=Source.POLICY) -> None:
    for k in steps:
        e.on_executed("e1", k * DT, source)


def test_the_time_limit_counts_executed_steps_and_excludes_what_ran_on():
    e = episode(0.2)
    run(e, range(100, 109))
    assert e.verdict is None
    run(e, range(109, 113))
    assert (e.verdict.end, e.verdict.outcome, e.verdict.label_stamp) == ("truncated", Outcome.NONE, 110 * DT)
    assert e.steps == 10


def test_steps_of_another_episode_do_not_count():
    e = episode()
    e.on_executed("e0", 0, Source.POLICY)
    assert e.steps == 0


def test_a_label_ends_the_episode_before_its_stamp_and_the_first_one_counts():
    e = episode()
    run(e, range(4))
    run(e, range(4, 7), Source.HUMAN)
    assert e.label("e1", Outcome.SUCCESS, 6 * DT) == ""
    assert (e.steps, e.intervention_steps) == (6, 2)
    assert "has ended already" in e.label("", Outcome.FAILURE, 5 * DT)
    assert (e.verdict.end, e.verdict.outcome) == ("terminated", Outcome.SUCCESS)


def test_a_label_without_stamp_means_the_newest_step():
    e = episode()
    run(e, range(4))
    assert e.label("", Outcome.FAILURE, 0) == ""
    assert e.verdict.label_stamp == 3 * DT


@pytest.mark.parametrize(
    ("episode_id", "outcome", "stamp", "says"),
    [
        ("other", 1, 3 * DT, "episode other is not running"),
        ("e1", 3, 3 * DT, r"expected 1 \(success\) or 2"),
        ("e1", 0, 3 * DT, r"expected 1 \(success\) or 2"),
        ("e1", 1, -5, "not after the first step"),
    ],
)
def test_a_wrong_label_is_refused(episode_id, outcome, stamp, says):
    import re

    e = episode()
    run(e, range(4))
    assert re.search(says, e.label(episode_id, outcome, stamp))
    assert e.verdict is None


def test_a_success_before_the_limit_counts_even_if_its_label_comes_after():
    e = episode(0.2)
    run(e, range(12))
    assert e.verdict.end == "truncated"
    assert "ended already" in e.label("", Outcome.SUCCESS, 11 * DT)
    assert e.label("", Outcome.SUCCESS, 10 * DT) == ""
    assert e.verdict.end == "terminated"


def test_an_abort_does_not_undo_a_label_and_a_label_does_not_undo_an_abort():
    e = episode()
    run(e, range(4))
    e.label("", Outcome.SUCCESS, 3 * DT)
    e.abort("late")
    assert e.verdict.end == "terminated"
    e = episode()
    run(e, range(4))
    e.abort("e-stop")
    assert "ended already (e-stop)" in e.label("", Outcome.SUCCESS, 3 * DT)


def test_steps_still_on_their_way_are_waited_for():
    e = episode(10.0)
    run(e, range(4))
    e.label("", Outcome.SUCCESS, 5 * DT)
    assert not e.all_steps_seen
    run(e, range(4, 5))
    assert e.all_steps_seen


def test_an_early_stop_keeps_what_ran_and_leaves_the_task_open():
    e = episode()
    run(e, range(4))
    e.stop("the operator")
    assert (e.verdict.outcome, e.verdict.end, e.verdict.label_stamp) == (Outcome.NONE, "truncated", 4 * DT)
    assert e.steps == 4
    e.stop("somebody else")
    assert e.verdict.reason == "stopped early by the operator"


def test_a_stop_before_the_first_step_aborts():
    e = episode()
    e.stop("the operator")
    assert e.verdict.end == "aborted"


def test_a_discarded_episode_is_aborted_whatever_its_label_said():
    e = episode()
    run(e, range(4))
    e.label("", Outcome.SUCCESS, 0)
    e.discard("the operator")
    assert e.discarded and (e.verdict.outcome, e.verdict.end) == (Outcome.ABORTED, "aborted")

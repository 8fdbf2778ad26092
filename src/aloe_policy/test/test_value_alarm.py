"""Timelines of chunk values, 0.3 s apart unless said otherwise, and when the alarm is raised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_policy.value_alarm import AlarmRule, ValueAlarm

STEP = 300_000_000  # ns


def raises(rule, values, stamps=None):
    """Return the indices of the chunks that raise the alarm."""
    alarm = ValueAlarm(rule)
    stamps = stamps or [i * STEP for i in range(len(values))]
    return [i for i, (stamp, value) in enumerate(zip(stamps, values, strict=True)) if alarm.see(stamp, value)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-0.5, -0.5, -0.6, -0.95], [3]),
        ([-0.5, -0.6, -0.7, -0.8], []),  # not by that much
        ([-0.2, -0.5, -0.5, -0.5, -0.5, -0.55], []),  # the best one left the window
        ([-1.5, -1.0, -0.5, -0.2], []),  # rising
        ([-0.2, -0.9, -0.9, -0.9], [1]),  # once, not at every chunk
    ],
)
def test_a_fall_within_the_window_raises_it_once(values, expected):
    assert raises(AlarmRule(drop=0.31, chunks=4), values) == expected


def test_it_is_raised_again_after_as_many_calm_chunks_as_it_looks_at():
    rule = AlarmRule(drop=0.3, chunks=3)
    again = [-0.2, -0.8, -0.8, -0.8, -0.8, -0.8, -0.2, -0.8]
    assert raises(rule, again) == [1, 7]
    at_once = [-0.2, -0.8, -0.2, -0.8]
    assert raises(rule, at_once) == [1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1.3, -1.3, -1.3], [2]),
        ([-1.3, -1.1, -1.3, -1.3], []),
        ([-1.3, -1.1, -1.3, -1.3, -1.3], [4]),
    ],
)
def test_values_below_the_floor_raise_it_only_in_a_row(values, expected):
    assert raises(AlarmRule(floor=-1.2, chunks=3), values) == expected


def test_a_pause_and_a_clock_that_goes_back_begin_anew():
    rule = AlarmRule(drop=0.3, chunks=5)
    assert raises(rule, [-0.2, -0.9], [0, 6_000_000_000]) == []
    assert raises(rule, [-0.2, -0.9], [5 * STEP, STEP]) == []


def test_another_driver_begins_anew_and_lowers_it():
    alarm = ValueAlarm(AlarmRule(drop=0.3, chunks=5))
    alarm.see(0, -0.2)
    assert alarm.see(STEP, -0.9) and "fell by 0.70 to -0.90 within 5 chunks" in alarm.raised
    alarm.begin()
    assert alarm.raised == ""
    assert not alarm.see(2 * STEP, -0.9)


@given(st.lists(st.floats(-3, 1), max_size=40))
def test_it_is_off_as_it_stands(values):
    assert raises(AlarmRule(), values) == []


@given(st.lists(st.floats(-3, 1), min_size=1, max_size=40), st.integers(1, 8))
def test_a_value_that_is_the_best_of_its_window_never_raises_a_drop(values, chunks):
    raised = raises(AlarmRule(drop=0.2, chunks=chunks), values)
    assert all(values[i] + 0.2 < max(values[max(0, i - chunks + 1) : i + 1]) for i in raised)

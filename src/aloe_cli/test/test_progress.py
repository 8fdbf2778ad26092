import io

import pytest
from rich.console import Console

from aloe_cli import progress as module
from aloe_cli.progress import Stages, progress


@pytest.fixture
def plain():
    return Console(file=io.StringIO(), force_terminal=False)


@pytest.fixture
def clock(monkeypatch):
    """Stopped clock; add to clock.now to let time pass."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


def lines(console):
    return console.file.getvalue().splitlines()


def test_without_a_terminal_the_first_step_the_last_and_one_each_period_are_printed(plain, clock):
    with progress("bags", 100, console=plain) as task:
        for _ in range(100):
            task.advance(note="fine")
            clock.now += 0.25
    assert lines(plain) == [
        "bags: 1/100, 0 s fine",
        "bags: 41/100, 10 s fine",
        "bags: 81/100, 20 s fine",
        "bags: 100/100, 25 s fine",
    ]


def test_work_that_breaks_off_shows_how_far_it_came(plain, clock):
    with pytest.raises(ValueError), progress("bags", 3, console=plain) as task:
        task.advance()
        task.advance()
        raise ValueError
    assert lines(plain) == ["bags: 1/3, 0 s", "bags: 2/3, 0 s"]


def test_unknown_total_is_left_out(plain, clock):
    with progress("frames", console=plain) as task:
        task.advance(5)
    assert lines(plain) == ["frames: 5, 0 s"]


def test_stages_are_reported_separately(plain, clock):
    with Stages(plain) as stages:
        stages.show("critic", 1, 2, "loss 3")
        stages.show("actor", 1, 2)
    assert lines(plain) == ["critic: 1/2, 0 s loss 3", "actor: 1/2, 0 s"]


def test_on_a_terminal_there_is_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with progress("bags", 2, console=console) as task:
        task.advance(2)
    assert "2/2" in console.file.getvalue()
    assert "━" in console.file.getvalue()

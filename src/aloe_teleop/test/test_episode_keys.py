"""Keys of the operator: a press is a button that goes down, of a message long enough."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_teleop.episode_keys import EpisodeKeys, Key

CONTRACT = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")
MAP = {Key.START: 7, Key.STOP: 8, Key.DISCARD: 9}


def joy(*down: int, length: int = 11) -> list[int]:
    return [int(k in down) for k in range(length)]


def test_a_press_counts_once_and_a_button_held_from_the_start_never():
    keys = EpisodeKeys(MAP, CONTRACT)
    timeline = [
        (joy(7), []),  # was down before anybody listened
        (joy(), []),
        (joy(7), [Key.START]),
        (joy(7), []),  # autorepeat
        (joy(7, 8), [Key.STOP]),
        (joy(9), [Key.DISCARD]),
    ]
    assert [keys.on_joy(buttons) for buttons, _ in timeline] == [expected for _, expected in timeline]


def test_a_message_too_short_presses_nothing_and_says_why_and_what_it_hid_is_no_press():
    keys = EpisodeKeys(MAP, CONTRACT)
    keys.on_joy(joy())
    assert keys.on_joy(joy(7, length=9)) == []
    assert keys.refusal == "Joy has 9 buttons, but discard_button is button 9: check the button map."
    assert keys.on_joy(joy(7)) == [] and keys.refusal == ""
    keys.on_joy(joy())
    assert keys.on_joy(joy(7)) == [Key.START]


def test_keys_without_a_button_are_not_there():
    keys = EpisodeKeys({**MAP, Key.STOP: -1, Key.DISCARD: -1}, CONTRACT)
    keys.on_joy([])
    assert str(keys) == "7 start"
    assert "start_button is button 7" in keys.refusal
    assert EpisodeKeys(dict.fromkeys(Key, -1), CONTRACT).on_joy([]) == []


@pytest.mark.parametrize(
    ("buttons", "says"),
    [
        ({Key.START: 4}, "start_button = 4: expected a button of its own, deadman_button has it"),
        ({Key.START: 7, Key.STOP: 7}, "stop_button = 7: expected a button of its own, start_button has it"),
    ],
)
def test_a_button_with_two_meanings_is_refused(buttons, says):
    with pytest.raises(AloeError, match=says):
        EpisodeKeys(buttons, CONTRACT)


@given(st.lists(st.lists(st.integers(0, 1), min_size=8, max_size=12), max_size=30))
def test_every_press_had_its_button_up_in_the_message_before(messages):
    keys = EpisodeKeys(MAP, CONTRACT)
    before = None
    for buttons in messages:
        for key in keys.on_joy(buttons):
            assert buttons[MAP[key]] and before is not None and len(before) > max(MAP.values())
            assert not before[MAP[key]]
        before = buttons

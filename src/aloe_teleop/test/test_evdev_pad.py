"""From kernel input events to buttons and axes, and what is said when there is no controller."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

evdev = pytest.importorskip("evdev")

from evdev import ecodes

from aloe_core.errors import AloeError
from aloe_teleop.evdev_pad import PadAbsent, normalised, open_pad
from fifo_pad import FifoPad, Plug


@pytest.fixture
def plug(tmp_path, monkeypatch):
    plug = Plug(tmp_path / "event0")
    monkeypatch.setattr(evdev, "InputDevice", FifoPad)
    monkeypatch.setattr(evdev, "list_devices", lambda: [str(plug.path)] if plug.path.exists() else [])
    plug.plug_in()
    yield plug
    plug.unplug()


def test_buttons_and_axes_follow_the_events_in_the_order_of_joydev(plug):
    pad = open_pad("")
    assert len(pad.buttons) == 8 and pad.axes == [0.0, 0.0, 1.0]  # a trigger at rest reads 1
    assert not pad.wait(0.0)
    plug.key(ecodes.BTN_TL, True)
    assert pad.wait(1.0) and pad.buttons == [0, 0, 0, 0, 1, 0, 0, 0]
    plug.send(
        (ecodes.EV_ABS, ecodes.ABS_X, -32768), (ecodes.EV_ABS, ecodes.ABS_Y, 100), (ecodes.EV_ABS, ecodes.ABS_Z, 255)
    )
    assert pad.wait(1.0) and pad.axes == [1.0, 0.0, -1.0]  # left is positive, 100 is within the flat zone
    plug.key(ecodes.BTN_TL, False)
    assert pad.wait(1.0) and not any(pad.buttons)
    pad.close()


def test_what_is_held_when_the_pad_is_opened_is_seen(plug, monkeypatch):
    monkeypatch.setattr(FifoPad, "held", (ecodes.BTN_TR,))
    pad = open_pad(str(plug.path))
    assert pad.buttons[5] == 1
    pad.close()


def test_after_the_kernel_dropped_events_the_state_is_read_anew(plug, monkeypatch):
    pad = open_pad("Test Pad")
    plug.key(ecodes.BTN_TL, True)
    assert pad.wait(1.0)
    monkeypatch.setattr(FifoPad, "values", {ecodes.ABS_Z: 255})
    plug.send((ecodes.EV_SYN, ecodes.SYN_DROPPED, 0), (ecodes.EV_KEY, ecodes.BTN_TL, 1))
    assert pad.wait(1.0)
    assert pad.buttons == [0] * 8 and pad.axes[2] == -1.0
    pad.close()


def test_unplugging_is_seen_at_once_even_with_events_waiting(plug):
    pad = open_pad("")
    plug.key(ecodes.BTN_TL, True)
    plug.unplug()
    with pytest.raises(PadAbsent, match="was unplugged"):
        pad.wait(1.0)
    pad.close()


def test_without_a_controller_the_refusal_says_what_was_looked_for(plug, tmp_path, monkeypatch):
    with pytest.raises(PadAbsent, match=r"one controller named 'Other', found 0; controllers here: Test Pad"):
        open_pad("Other")
    with pytest.raises(PadAbsent, match=r"event9 cannot be opened \(No such file"):
        open_pad(str(tmp_path / "event9"))
    monkeypatch.setattr(evdev, "list_devices", lambda: [str(plug.path)] * 2)
    with pytest.raises(PadAbsent, match=r"found 2; .*: name one of them by parameter device"):
        open_pad("")
    monkeypatch.setattr(FifoPad, "capabilities", lambda self, absinfo=True: {ecodes.EV_KEY: [ecodes.KEY_A]})
    with pytest.raises(PadAbsent, match="is no game controller"):
        open_pad(str(plug.path))


def test_a_missing_evdev_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "evdev", None)
    with pytest.raises(AloeError, match="needs the package evdev, which is not installed: pip install evdev"):
        open_pad("")


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-32768, 32767), st.integers(-32768, 32767), st.integers(0, 4096))
def test_an_axis_stays_within_one_and_is_zero_in_its_flat_zone(value, low, high, flat):
    result = normalised(value, low, high, flat)
    assert -1.0 <= result <= 1.0
    if low < high and abs(value - (low + high) / 2) <= flat:
        assert result == 0.0

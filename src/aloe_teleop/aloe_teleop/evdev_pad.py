"""A game controller as Linux's event devices give it (python-evdev), numbered as joydev and package joy_linux do."""

from __future__ import annotations

import importlib
import select
from typing import Any

from aloe_core.errors import AloeError

_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
_JOYSTICK, _MISC, _AFTER_THUMBS = 0x120, 0x100, 0x13F  # BTN_JOYSTICK, BTN_MISC, behind BTN_THUMBR
_SYN, _KEY, _ABS = 0, 1, 3  # event types
_DROPPED = 3  # SYN_DROPPED: the kernel's queue overflowed, what follows is incomplete


class PadAbsent(AloeError):
    """There is no controller, or no longer one."""


class Pad:
    """An open controller. `buttons` (0 or 1) and `axes` (-1 to 1, left and away positive) are its present state."""

    def __init__(self, device: Any) -> None:
        """`device` is an evdev.InputDevice; it belongs to the pad from now on."""
        self._device = device
        self.model = device.name
        self.name = f"{device.name} ({device.path})"
        capabilities = device.capabilities(absinfo=True)
        keys = sorted(capabilities.get(_KEY, ()), key=lambda code: (code < _JOYSTICK, code))
        self._buttons = {code: i for i, code in enumerate(code for code in keys if code >= _MISC)}
        self._axes = {code: (i, info) for i, (code, info) in enumerate(sorted(capabilities.get(_ABS, ())))}
        self._poll = select.poll()
        self._poll.register(device.fileno(), select.POLLIN)
        self._read_all()

    def wait(self, timeout: float) -> bool:
        """Return whether the state changed within `timeout` s; PadAbsent as soon as the device is unplugged."""
        ready = self._poll.poll(timeout * 1000)
        if not ready:
            return False
        if ready[0][1] & _GONE:
            raise PadAbsent(f"{self.name} was unplugged.")
        try:
            events = list(self._device.read())
        except OSError as error:
            raise PadAbsent(f"{self.name} was unplugged ({error.strerror}).") from error
        if not events:
            raise PadAbsent(f"{self.name} was unplugged (end of file).")
        before = self.buttons.copy(), self.axes.copy()
        for event in events:
            if event.type == _SYN and event.code == _DROPPED:
                self._read_all()
                break
            self._apply(event.type, event.code, event.value)
        return before != (self.buttons, self.axes)

    def close(self) -> None:
        self._device.close()

    def _apply(self, kind: int, code: int, value: int) -> None:
        if kind == _KEY and code in self._buttons:
            self.buttons[self._buttons[code]] = int(value != 0)
        elif kind == _ABS and code in self._axes:
            index, info = self._axes[code]
            self.axes[index] = normalised(value, info.min, info.max, info.flat)

    def _read_all(self) -> None:
        """Take the state from the device itself, as after opening it."""
        held = set(self._device.active_keys())
        self.buttons = [int(code in held) for code in self._buttons]
        self.axes = [0.0] * len(self._axes)
        for code in self._axes:
            self._apply(_ABS, code, self._device.absinfo(code).value)


def normalised(value: int, low: int, high: int, flat: int) -> float:
    """Return an axis value as in sensor_msgs/Joy: -1 to 1, reversed (left and away positive), 0 within `flat`."""
    if high <= low or abs(2 * value - low - high) <= 2 * flat:
        return 0.0
    return max(-1.0, min(1.0, 1.0 - 2.0 * (value - low) / (high - low)))


def open_pad(wanted: str) -> Pad:
    """Open the controller at path `wanted`, or of that name, or the only one if empty; PadAbsent if there is none.

    AloeError if python-evdev is not installed.
    """
    evdev = _evdev()
    if wanted.startswith("/"):
        return _open(evdev, wanted)
    pads = []
    for path in evdev.list_devices():
        try:
            pads.append(_open(evdev, path))
        except PadAbsent:
            continue
    fitting = [pad for pad in pads if wanted in ("", pad.model)]
    for pad in pads:
        if len(fitting) != 1 or pad is not fitting[0]:
            pad.close()
    if len(fitting) == 1:
        return fitting[0]
    found = ", ".join(pad.name for pad in pads) or "none"
    kind = f"controller named {wanted!r}" if wanted else "game controller"
    advice = "name one of them by parameter device" if pads else "plug it in, or let this user read /dev/input"
    raise PadAbsent(f"Expected one {kind}, found {len(fitting)}; controllers here: {found}: {advice}.")


def _open(evdev: Any, path: str) -> Pad:
    try:
        device = evdev.InputDevice(path)
    except OSError as error:
        raise PadAbsent(f"Controller {path} cannot be opened ({error.strerror or error}).") from error
    capabilities = device.capabilities(absinfo=False)
    if not capabilities.get(_ABS) or not any(_JOYSTICK <= c < _AFTER_THUMBS for c in capabilities.get(_KEY, ())):
        name = device.name
        device.close()
        raise PadAbsent(f"{name} ({path}) is no game controller: it lacks sticks or their buttons.")
    return Pad(device)


def _evdev() -> Any:
    try:
        return importlib.import_module("evdev")
    except ImportError as error:
        raise AloeError(
            "joy_reader needs the package evdev, which is not installed: pip install evdev, or use package joy."
        ) from error

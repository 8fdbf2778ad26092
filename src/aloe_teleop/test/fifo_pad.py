"""A game controller that is a FIFO of kernel input events: all of evdev and of the reader but the ioctls runs on it.

Run as a module it is joy_reader with the FIFO that ALOE_TEST_PAD names in place of /dev/input.
"""

import errno
import os
import stat
import struct
import sys
from pathlib import Path

import evdev
from evdev import ecodes
from evdev.eventio import EventIO

BUTTONS = [ecodes.BTN_SOUTH, ecodes.BTN_EAST, ecodes.BTN_NORTH, ecodes.BTN_WEST, ecodes.BTN_TL, ecodes.BTN_TR]
BUTTONS += [ecodes.BTN_SELECT, ecodes.BTN_START]
STICK = evdev.AbsInfo(0, -32768, 32767, 16, 128, 0)
TRIGGER = evdev.AbsInfo(0, 0, 255, 0, 0, 0)
AXES = {ecodes.ABS_X: STICK, ecodes.ABS_Y: STICK, ecodes.ABS_Z: TRIGGER}


class FifoPad(EventIO):
    """What evdev.InputDevice is for a device file; its present state is that of `held` and `values`."""

    name = "Test Pad"
    held: tuple[int, ...] = ()
    values: dict[int, int] = {}  # noqa: RUF012

    def __init__(self, path: str) -> None:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def capabilities(self, absinfo: bool = True) -> dict:
        axes = list(AXES.items()) if absinfo else list(AXES)
        return {ecodes.EV_SYN: [0], ecodes.EV_KEY: BUTTONS, ecodes.EV_ABS: axes}

    def active_keys(self) -> list[int]:
        return list(self.held)

    def absinfo(self, code: int) -> evdev.AbsInfo:
        return AXES[code]._replace(value=self.values.get(code, 0))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Plug:
    """The other end: the hand on the pad, and its cable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def plug_in(self) -> None:
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def unplug(self) -> None:
        self.path.unlink(missing_ok=True)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def send(self, *events: tuple[int, int, int]) -> None:
        """Write (type, code, value) events and the report that ends them."""
        report = (*events, (ecodes.EV_SYN, ecodes.SYN_REPORT, 0))
        os.write(self._fd, b"".join(struct.pack("llHHi", 0, 0, *event) for event in report))

    def key(self, code: int, down: bool) -> None:
        self.send((ecodes.EV_KEY, code, int(down)))


if __name__ == "__main__":
    evdev.InputDevice = FifoPad
    evdev.list_devices = lambda: [path for path in [os.environ["ALOE_TEST_PAD"]] if os.path.exists(path)]
    from aloe_teleop.nodes.joy_reader import main

    sys.exit(main())

"""The operator's keys on the joystick: start, stop and discard episodes; no ROS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from aloe_core.contract import RobotContract
from aloe_core.errors import bad_value
from aloe_teleop.joystick import button_names

NONE = -1  # button of a key that is not used


class Key(Enum):
    """What a key asks for; the value is the parameter that names its button."""

    START = "start_button"
    STOP = "stop_button"
    DISCARD = "discard_button"


class EpisodeKeys:
    """Turns joystick messages into key presses: a button that goes down, never one that was down before.

    A message with too few buttons presses nothing; `refusal` then says so in a sentence.
    """

    def __init__(self, buttons: Mapping[Key, int], contract: RobotContract) -> None:
        """`buttons`: index of each key, -1 for none. AloeError if a button has two meanings."""
        self.refusal = ""
        self._buttons = {key: button for key, button in buttons.items() if button != NONE}
        self._down: frozenset[Key] | None = None  # None: no message yet
        taken = {button: name for name, button in button_names(contract).items()}
        for key, button in self._buttons.items():
            if button in taken:
                expected = f"a button of its own, {taken[button]} has it"
                raise bad_value("Node episode_manager: parameter", key.value, button, expected)
            taken[button] = key.value

    def on_joy(self, buttons: Sequence[int]) -> list[Key]:
        """Return the keys that this message presses; `buttons` as in sensor_msgs/Joy."""
        highest = max(self._buttons.values(), default=NONE)
        if len(buttons) <= highest:
            name = next(key.value for key, button in self._buttons.items() if button == highest)
            self.refusal = f"Joy has {len(buttons)} buttons, but {name} is button {highest}: check the button map."
            self._down = None
            return []
        self.refusal = ""
        before, self._down = self._down, frozenset(key for key, b in self._buttons.items() if buttons[b])
        return [] if before is None else [key for key in Key if key in self._down - before]

    def __str__(self) -> str:
        """The map, for a person to read."""
        return ", ".join(f"{button} {key.name.lower()}" for key, button in self._buttons.items()) or "none"

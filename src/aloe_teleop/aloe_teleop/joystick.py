"""What the buttons and axes of sensor_msgs/Joy mean under a contract; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.contract_takeover import Pull
from aloe_core.errors import AloeError

DIRECTIONS = ("x", "y", "z", "roll", "pitch", "yaw")
BUTTONS = {
    "deadman_button": "hold to drive",
    "estop_button": "e-stop",
    "success_button": "label success",
    "failure_button": "label failure",
    "help_button": "print this map",
}
_NEEDED = ("deadman_button", "estop_button", "success_button", "failure_button")  # a message without these is refused
_AT_REST = 0.1  # of a trigger's way


@dataclass(frozen=True)
class Stick:
    """One reading of the joystick."""

    pressed: frozenset[str]  # keys of the contract's takeover section; `deadman_buttons.<group>` and the like
    twist: np.ndarray  # [6], m/s and rad/s in the base frame, before the clutch is looked at
    gripper: float = 0.0  # unit/s, positive opens


class Joystick:
    """Reads sensor_msgs/Joy by the contract's map. `drives`: the sticks move end effectors, so axes are looked at.

    A trigger counts only after it was seen at rest: drivers report 0 for one that was not touched yet.
    """

    def __init__(self, contract: RobotContract, *, drives: bool) -> None:
        """Raise AloeError if two functions share a button, or if sticks shall drive and the contract has no map."""
        takeover = contract.takeover
        self.map = button_names(contract)
        check_unique(contract.name, self.map)
        if drives and takeover.pad is None:
            raise AloeError(
                f"Contract {contract.name}: takeover.pad is missing: expected the axes a joystick drives with."
            )
        self._pad = takeover.pad if drives else None
        self._rested: set[str] = set()
        self._needed = {
            name: button
            for name, button in self.map.items()
            if name in _NEEDED or name.startswith("deadman_buttons.") or (drives and name.startswith("pad."))
        }
        self._axes = _axes(contract) if drives else {}

    def complaint(self, buttons: Sequence[int], axes: Sequence[float]) -> str:
        """Return why a message does not fit the map, one sentence, empty if it does."""
        for what, given, needed in (("button", buttons, self._needed), ("axis", axes, self._axes)):
            name = max(needed, key=lambda key: needed[key], default="")
            if name and len(given) <= needed[name]:
                have = f"{len(given)} {'buttons' if what == 'button' else 'axes'}"
                return f"Joy has {have}, but takeover.{name} is {what} {needed[name]}: check the map."
        for name, axis in self._axes.items():
            if not np.isfinite(axes[axis]):
                return f"Joy is not finite at axis {axis} (takeover.{name}): check the joystick's driver."
        return ""

    def read(self, buttons: Sequence[int], axes: Sequence[float]) -> Stick:
        """Return what a message without `complaint` says."""
        pressed = frozenset(name for name, b in self.map.items() if b < len(buttons) and buttons[b])
        if self._pad is None:
            return Stick(pressed, np.zeros(6))
        twist = np.zeros(6)
        for direction, axis in self._pad.axes.items():
            twist[DIRECTIONS.index(direction)] = axis.speed * beyond(axes[axis.axis], self._pad.deadzone)
        gripper = 0.0
        if self._pad.gripper is not None:
            opening = self._pull("open", self._pad.gripper.open, pressed, axes)
            closing = self._pull("close", self._pad.gripper.close, pressed, axes)
            gripper = self._pad.gripper.speed * (opening - closing)
        return Stick(pressed, twist, gripper)

    def forget_rest(self) -> None:
        """Ask for triggers at rest again, as after the joystick was lost."""
        self._rested.clear()

    def _pull(self, name: str, pull: Pull, pressed: frozenset[str], axes: Sequence[float]) -> float:
        if pull.axis is None:
            return float(f"pad.gripper.{name}.button" in pressed)
        pulled = float(np.clip((axes[pull.axis] - pull.rest) / (pull.full - pull.rest), 0.0, 1.0))
        if pulled <= _AT_REST:
            self._rested.add(name)
        return beyond(pulled, _AT_REST) if name in self._rested else 0.0


def beyond(value: float, deadzone: float) -> float:
    """Return an axis value without its dead zone: 0 inside, growing from its edge, -1 to 1."""
    size = (min(abs(value), 1.0) - deadzone) / (1.0 - deadzone)
    return float(np.sign(value) * max(size, 0.0))


def button_names(contract: RobotContract) -> dict[str, int]:
    """Return every button of the takeover section by its key; `deadman_buttons.left`, `pad.clutch_button`."""
    takeover, pad = contract.takeover, contract.takeover.pad
    plain = {key: getattr(takeover, key) for key in type(takeover).model_fields if key.endswith("_button")}
    found = {key: button for key, button in plain.items() if button is not None}
    found |= {f"deadman_buttons.{group}": button for group, button in takeover.deadman_buttons.items()}
    if pad is not None:
        found["pad.clutch_button"] = pad.clutch_button
        found |= {f"pad.select_buttons.{group}": button for group, button in pad.select_buttons.items()}
        for name, pull in _pulls(contract).items():
            if pull.button is not None:
                found[f"pad.gripper.{name}.button"] = pull.button
    return found


def check_unique(contract: str, buttons: dict[str, int]) -> None:
    """Raise AloeError if two functions have the same button."""
    seen: dict[int, str] = {}
    for name, button in buttons.items():
        if button in seen:
            raise AloeError(
                f"Contract {contract}: takeover.{name} = {button}: expected a button of its own, "
                f"takeover.{seen[button]} has it."
            )
        seen[button] = name


def help_text(contract: RobotContract, *, drives: bool) -> str:
    """Return the map of the joystick for a person to read, on one line a kind of input."""
    skipped = set() if drives else _names_of_pad(contract)
    parts = [f"{b} {_meaning(name)}" for name, b in button_names(contract).items() if name not in skipped]
    lines = ["Joystick buttons: " + ", ".join(parts)]
    pad = contract.takeover.pad
    if drives and pad is not None:
        units = {d: "m/s" if d in DIRECTIONS[:3] else "rad/s" for d in DIRECTIONS}
        lines.append(
            "Joystick axes, while dead-man and clutch are held: "
            + ", ".join(f"{a.axis} {d} ({a.speed:+g} {units[d]})" for d, a in pad.axes.items())
        )
        triggers = [f"{p.axis} {name} gripper" for name, p in _pulls(contract).items() if p.axis is not None]
        if triggers:
            lines.append("Joystick triggers: " + ", ".join(triggers))
    return "\n".join(lines)


def _meaning(name: str) -> str:
    head, _, last = name.rpartition(".")
    match head:
        case "deadman_buttons":
            return f"hold to drive {last} only"
        case "pad.select_buttons":
            return f"select {last}"
        case "pad.gripper.open" | "pad.gripper.close":
            return f"{head.rpartition('.')[2]} gripper"
        case "pad":
            return "hold with the dead-man to move"
    return BUTTONS.get(name, name.removesuffix("_button").replace("_", " "))


def _names_of_pad(contract: RobotContract) -> set[str]:
    return {name for name in button_names(contract) if name.startswith("pad.")}


def _pulls(contract: RobotContract) -> dict[str, Pull]:
    pad = contract.takeover.pad
    return {"open": pad.gripper.open, "close": pad.gripper.close} if pad is not None and pad.gripper else {}


def _axes(contract: RobotContract) -> dict[str, int]:
    pad = contract.takeover.pad
    assert pad is not None
    found = {f"pad.axes.{direction}.axis": axis.axis for direction, axis in pad.axes.items()}
    return found | {f"pad.gripper.{n}.axis": p.axis for n, p in _pulls(contract).items() if p.axis is not None}

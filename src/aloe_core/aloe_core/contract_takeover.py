"""The contract's `takeover` section: which buttons, axes and leader arms a person drives with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aloe_core.section import Section

Button = Annotated[int, Field(ge=0, le=63)]
AxisIndex = Annotated[int, Field(ge=0, le=31)]
Direction = Literal["x", "y", "z", "roll", "pitch", "yaw"]


class PadAxis(Section):
    """An axis of the joystick and the speed (m/s or rad/s) it asks for at 1.0; a negative speed turns it round."""

    axis: AxisIndex
    speed: float = Field(ge=-4, le=4)


class Pull(Section):
    """A button, or a trigger: an axis that reads `rest` when let go and `full` when pulled."""

    button: Button | None = None
    axis: AxisIndex | None = None
    rest: float = Field(default=0.0, ge=-1, le=1)
    full: float = Field(default=1.0, ge=-1, le=1)

    @model_validator(mode="after")
    def _one_input(self) -> Pull:
        if (self.button is None) == (self.axis is None):
            raise ValueError("either button or axis")
        if self.rest == self.full:
            raise ValueError("rest and full that differ")
        return self


class PadGripper(Section):
    """What opens and closes the gripper of the selected arm, towards its upper and lower limit at `speed` (unit/s)."""

    open: Pull
    close: Pull
    speed: float = Field(gt=0, le=10)


class Pad(Section):
    """Joystick that moves end effectors while clutch and dead-man are held; directions are those of the model's base.

    `select_buttons` names the button of each arm (joint group); the first arm of the contract is selected at start.
    """

    clutch_button: Button
    axes: dict[Direction, PadAxis] = Field(min_length=1)
    deadzone: float = Field(default=0.1, ge=0, lt=1)
    select_buttons: dict[str, Button] = Field(default_factory=dict)
    gripper: PadGripper | None = None


class Takeover(Section):
    """Joystick buttons, leader topic and the largest leader-follower difference at engagement (rad).

    The dead-man takes every joint group; `deadman_buttons` adds one for a group of its own. `ramp` is the time (s)
    in which a leader's command passes from where the robot is to where the leader is.
    """

    joy_topic: str
    leader_topic: str
    deadman_button: Button
    estop_button: Button
    success_button: Button
    failure_button: Button
    help_button: Button | None = None
    deadman_buttons: dict[str, Button] = Field(default_factory=dict)
    alignment_tolerance: float = Field(gt=0)
    ramp: float = Field(default=0.5, ge=0, le=5)
    pad: Pad | None = None

    def named_groups(self) -> dict[str, tuple[str, ...]]:
        """Return the joint groups that each key names, for the contract to check."""
        selected = tuple(self.pad.select_buttons) if self.pad else ()
        return {"takeover.deadman_buttons": tuple(self.deadman_buttons), "takeover.pad.select_buttons": selected}

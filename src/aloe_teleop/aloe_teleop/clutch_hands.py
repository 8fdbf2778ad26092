"""The joystick as a source of a person's command: clutch, selected arm and the command of each arm; pure."""

from __future__ import annotations

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.control import RobotState, Teleop
from aloe_core.kinematics import RobotModel
from aloe_teleop.clutch import Jog
from aloe_teleop.joystick import Stick

_SELECT = "pad.select_buttons."


class ClutchHands:
    """Moves the selected arm while the clutch is held. An arm that was moved stays in the person's hand, standing
    still, until its dead-man is let go; so do both when the arms are exchanged.

    `now` is a monotonic clock in ns; a step takes the time between the stamps of two joint states.
    """

    def __init__(self, contract: RobotContract, model: RobotModel | None, *, lockstep: bool) -> None:
        self._jog = Jog(contract, model)
        self._contract = contract
        self._limit = None if lockstep else contract.staleness.joint_states * 1e9
        self.selected = self._jog.groups[0]
        self._stick = Stick(frozenset(), np.zeros(6))
        self._commands: dict[str, np.ndarray] = {}
        self._stamp = 0  # ns, of the joint state that the commands answer
        self._received = 0

    def hold(self, stick: Stick) -> None:
        """Take a reading of the joystick."""
        self._stick = stick
        for name in sorted(stick.pressed):
            if name.startswith(_SELECT) and name.removeprefix(_SELECT) in self._jog.groups:
                self.selected = name.removeprefix(_SELECT)

    def advance(self, now: int, state: RobotState, groups: tuple[str, ...]) -> None:
        """Move the command of the selected arm, if it is among the engaged `groups`, on to joint state `state`."""
        dt, self._stamp, self._received = (state.stamp - self._stamp) * 1e-9, state.stamp, now
        group = self.selected
        if group in groups and self._clutched:
            stick = self._stick
            self._commands[group] = self._jog.step(
                group, self._commands[group], state.position, stick.twist, stick.gripper, dt
            )

    def ready(self, now: int, group: str, _follower: RobotState) -> bool:
        """Return whether the clutch is held for this arm and a fresh joint state is there."""
        fresh = self._limit is None or now - self._received <= self._limit
        return group == self.selected and self._clutched and fresh

    def refusal(self, _group: str, _measured: np.ndarray) -> str:
        """The command starts where the robot is, so there is nothing to align."""
        return ""

    def start(self, _now: int, group: str, command: np.ndarray) -> None:
        """Begin at the robot's `command` [J]."""
        self._commands[group] = np.clip(command, self._contract.lower, self._contract.upper)

    def silence(self, _now: int, _group: str) -> str:
        """Without joint states there are no commands; the arbiter holds then."""
        return ""

    def command(self, groups: tuple[str, ...]) -> Teleop:
        """Return where the arms of `groups` shall be."""
        joints = [self._jog.joints(group) for group in groups]
        positions = [self._commands[group][own] for group, own in zip(groups, joints, strict=True)]
        return Teleop(self._stamp, True, np.concatenate(joints), np.concatenate(positions))

    @property
    def _clutched(self) -> bool:
        return "pad.clutch_button" in self._stick.pressed

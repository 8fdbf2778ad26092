"""From buttons and a leader arm to a person's command: pure, with injected time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.control import Teleop
from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError

BUTTONS = {
    "deadman_button": "hold to drive",
    "estop_button": "e-stop",
    "success_button": "label success",
    "failure_button": "label failure",
}


class Grip(Enum):
    """What the dead-man and the leader amount to."""

    RELEASED = auto()
    WAITING = auto()  # dead-man held, no fresh leader message or no joint state yet
    ENGAGED = auto()
    REFUSED = auto()  # dead-man held, but engagement was refused; release it and press again


@dataclass(frozen=True)
class Reaction:
    """What follows from one input."""

    command: Teleop | None = None
    label: Outcome | None = None
    refusal: str = ""  # why the person does not drive, one sentence


@dataclass(frozen=True)
class _Leader:
    stamp: int
    joints: np.ndarray
    positions: np.ndarray
    received: int


class Takeover:
    """The person drives while the dead-man is held, if the leader was aligned with the robot when it was pressed.

    `now` is a monotonic clock in ns. A leader message that came before the press counts if it answers the newest joint
    state (lock-step), or came within the contract's teleop staleness (robot).
    """

    def __init__(self, contract: RobotContract, *, lockstep: bool, joy_timeout: float = 0.0) -> None:
        self.grip = Grip.RELEASED
        self.refusal = ""
        self._contract = contract
        self._lockstep = lockstep
        self._joy_timeout = round(joy_timeout * 1e9)
        self._buttons = {name: getattr(contract.takeover, name) for name in BUTTONS}
        self._angular = np.array([joint.unit == "rad" for joint in contract.joints])
        self._pressed: frozenset[str] = frozenset()
        self._joy_received = 0
        self._leader: _Leader | None = None
        self._follower: tuple[int, np.ndarray] | None = None
        _check_buttons(contract)

    def on_joy(self, now: int, buttons: Sequence[int]) -> Reaction:
        """`buttons` as in sensor_msgs/Joy; a message too short for the map is refused and lets go."""
        self._joy_received = now
        highest = max(self._buttons.values())
        if len(buttons) <= highest:
            name = max(self._buttons, key=lambda key: self._buttons[key])
            self._pressed = frozenset()
            why = f"Joy has {len(buttons)} buttons, but takeover.{name} is button {highest}: check the button map."
            return self._let_go(why)
        before, self._pressed = self._pressed, frozenset(n for n, b in self._buttons.items() if buttons[b])
        label = None
        for name, outcome in (("success_button", Outcome.SUCCESS), ("failure_button", Outcome.FAILURE)):
            if name in self._pressed - before:
                label = outcome
        if "deadman_button" not in self._pressed:
            return Reaction(self._let_go("").command, label)
        if self.grip is Grip.RELEASED:
            self.grip = Grip.WAITING
            if self._leader_is_fresh(now):
                reaction = self._engage()
                return Reaction(reaction.command, label, reaction.refusal)
        return Reaction(label=label)

    def on_leader(self, now: int, stamp: int, joints: np.ndarray, positions: np.ndarray) -> Reaction:
        """`positions` [n] of contract joints `joints` [n] at `stamp` (ns)."""
        self._leader = _Leader(stamp, joints, positions, now)
        if self.grip is Grip.WAITING and self._follower is not None:
            return self._engage()
        if self.grip is Grip.ENGAGED:
            return Reaction(self._command())
        return Reaction()

    def on_follower(self, now: int, stamp: int, position: np.ndarray) -> Reaction:
        """Measured joint positions [J] of the robot at `stamp` (ns)."""
        self._follower = stamp, position
        if self.grip is Grip.WAITING and self._leader_is_fresh(now):
            return self._engage()
        return Reaction()

    def watch(self, now: int, joy_present: bool) -> Reaction:
        """Let go when the joystick is gone or silent; call it a few times a second."""
        if self.grip is Grip.RELEASED:
            return Reaction()
        if not joy_present:
            self._pressed = frozenset()
            return self._let_go("The joystick is gone while the dead-man was held: the robot is released.")
        if self._joy_timeout and now - self._joy_received > self._joy_timeout:
            self._pressed = frozenset()
            silent = (now - self._joy_received) * 1e-9
            return self._let_go(
                f"No joy message for {silent:.2f} s while the dead-man was held: the robot is released."
            )
        return Reaction()

    def released(self) -> Teleop:
        """Return the command that says nobody drives."""
        return Teleop(self._leader.stamp if self._leader is not None else 0, False)

    @property
    def newest_stamp(self) -> int:
        """Stamp of the newest joint state, ns; 0 before the first."""
        return self._follower[0] if self._follower is not None else 0

    def _let_go(self, refusal: str) -> Reaction:
        was, self.grip = self.grip, Grip.RELEASED
        self.refusal = refusal
        return Reaction(self.released() if was is Grip.ENGAGED else None, refusal=refusal)

    def _engage(self) -> Reaction:
        self.refusal = self._misalignment()
        self.grip = Grip.REFUSED if self.refusal else Grip.ENGAGED
        return Reaction(None if self.refusal else self._command(), refusal=self.refusal)

    def _command(self) -> Teleop:
        assert self._leader is not None
        return Teleop(self._leader.stamp, True, self._leader.joints, self._leader.positions)

    def _leader_is_fresh(self, now: int) -> bool:
        if self._leader is None or self._follower is None:
            return False
        if self._lockstep:
            return self._leader.stamp >= self._follower[0]
        return now - self._leader.received <= self._contract.staleness.teleop * 1e9

    def _misalignment(self) -> str:
        """Return why the leader must not drive yet, empty if it may."""
        assert self._leader is not None and self._follower is not None
        joints, positions = self._leader.joints, self._leader.positions
        if len(joints) == 0 or not np.isfinite(positions).all():
            return "Takeover refused: the leader has no finite joint positions."
        difference = np.where(self._angular[joints], np.abs(positions - self._follower[1][joints]), 0.0)
        worst = int(difference.argmax())
        tolerance = self._contract.takeover.alignment_tolerance
        if difference[worst] <= tolerance:
            return ""
        return (
            f"Takeover refused: leader and robot differ by {difference[worst]:.2f} rad at "
            f"{self._contract.joint_names[joints[worst]]}, at most {tolerance} is allowed: "
            "align the leader, release the dead-man and press it again."
        )


def button_map(contract: RobotContract) -> str:
    """Return the map of the joystick for a person to read."""
    parts = [f"{getattr(contract.takeover, name)} {what}" for name, what in BUTTONS.items()]
    return "Joystick buttons: " + ", ".join(parts)


def _check_buttons(contract: RobotContract) -> None:
    seen: dict[int, str] = {}
    for name in BUTTONS:
        button = getattr(contract.takeover, name)
        if button in seen:
            raise AloeError(
                f"Contract {contract.name}: takeover.{name} = {button}: expected a button of its own, "
                f"takeover.{seen[button]} has it."
            )
        seen[button] = name

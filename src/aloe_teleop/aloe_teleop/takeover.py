"""From a joystick and leader arms to a person's command: pure, with injected time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.control import RobotState, Teleop
from aloe_core.episode.data import Outcome
from aloe_core.kinematics import RobotModel
from aloe_teleop.clutch_hands import ClutchHands
from aloe_teleop.joystick import Joystick
from aloe_teleop.leader import LeaderArms
from aloe_teleop.takeover_deadman import DeadMen


class Grip(Enum):
    """What dead-man and input of one joint group amount to."""

    RELEASED = auto()
    WAITING = auto()  # dead-man held, no fresh leader message, clutch or joint state yet
    ENGAGED = auto()
    REFUSED = auto()  # dead-man held, but engagement was refused; release it and press again


@dataclass(frozen=True)
class Reaction:
    """What follows from one input."""

    command: Teleop | None = None
    label: Outcome | None = None
    refusal: str = ""  # why the person does not drive, one sentence
    hold: bool = False  # the input was lost while it drove: ask for HOLD, since a release would hand back to the policy
    help: bool = False  # the person asked for the map


class Takeover:
    """The person drives the joint groups whose dead-man is held: by leader arms, or by the joystick alone (`clutch`).

    A leader must be aligned with the robot when it engages. All arms that one dead-man would engage at once engage
    together or not at all.
    `now` is a monotonic clock in ns; `joy_timeout` in s, 0 for none.
    """

    def __init__(
        self,
        contract: RobotContract,
        *,
        lockstep: bool,
        joy_timeout: float = 0.0,
        needs_presence: bool = False,
        clutch: bool = False,
        model: RobotModel | None = None,
    ) -> None:
        """Raise AloeError if two functions share a button, or if the contract lacks what the clutch needs."""
        self.grips = dict.fromkeys(contract.groups, Grip.RELEASED)
        self.refusal = ""
        self._contract = contract
        self._joystick = Joystick(contract, drives=clutch)
        self._leaders = None if clutch else LeaderArms(contract, lockstep=lockstep)
        self._hands = ClutchHands(contract, model, lockstep=lockstep) if clutch else None
        self._joy_timeout = round(joy_timeout * 1e9)
        self._angular = np.array([joint.unit == "rad" for joint in contract.joints])
        self._deadmen = DeadMen(contract.groups, needs_presence=needs_presence)
        self._joy_received = 0
        self._follower: RobotState | None = None
        self._executed: RobotState | None = None
        self._stamp = 0  # of the newest command

    @property
    def _source(self) -> LeaderArms | ClutchHands:
        source = self._leaders or self._hands
        assert source is not None
        return source

    @property
    def grip(self) -> Grip:
        """The most telling grip of all groups."""
        order = (Grip.ENGAGED, Grip.REFUSED, Grip.WAITING)
        return next((grip for grip in order if grip in self.grips.values()), Grip.RELEASED)

    @property
    def engaged(self) -> tuple[str, ...]:
        """Joint groups that the person drives."""
        return tuple(group for group, grip in self.grips.items() if grip is Grip.ENGAGED)

    @property
    def selected(self) -> str:
        """The arm that the joystick moves, empty with leader arms."""
        return self._hands.selected if self._hands is not None else ""

    @property
    def newest_stamp(self) -> int:
        """Stamp of the newest joint state, ns; 0 before the first."""
        return self._follower.stamp if self._follower is not None else 0

    def released(self) -> Teleop:
        """Return the command that says nobody drives."""
        return Teleop(self._stamp, False)

    # Inputs -------------------------------------------------------------------------------------------------------

    def on_joy(self, now: int, buttons: Sequence[int], axes: Sequence[float] = ()) -> Reaction:
        """Take a sensor_msgs/Joy; one that does not fit the map lets go and is refused."""
        self._joy_received = now
        complaint = self._joystick.complaint(buttons, axes)
        if complaint:
            return self._lose(complaint)
        stick = self._joystick.read(buttons, axes)
        news = self._deadmen.see(stick.pressed)
        labels = {"success_button": Outcome.SUCCESS, "failure_button": Outcome.FAILURE}
        label = next((outcome for name, outcome in labels.items() if name in news), None)
        if self._hands is not None:
            self._hands.hold(stick)
        reaction = self._grip(now)
        return Reaction(reaction.command, label, reaction.refusal, help="help_button" in news)

    def on_presence(self, present: bool) -> Reaction:
        """Take what the joystick's reader says about the device itself."""
        before, self._deadmen.present = self._deadmen.present, present
        if present or before is False:
            return Reaction()
        if before is None and not self.engaged:
            return self._lose("No joystick is there: plug it in.")
        return self._lose("The joystick was unplugged, or its reader died: the robot holds.")

    def on_leader(self, now: int, stamp: int, joints: np.ndarray, positions: np.ndarray) -> Reaction:
        """`positions` [n] of contract joints `joints` [n] at `stamp` (ns); ignored while the joystick drives."""
        if self._leaders is None:
            return Reaction()
        groups, complaint = self._leaders.take(now, stamp, joints, positions)
        if complaint:
            return self._unusable(groups, complaint)
        reaction = self._try(now)
        if reaction.command is not None or not self.engaged:
            return reaction
        return self._silence(now) or Reaction(self._command(), refusal=reaction.refusal)

    def on_follower(self, now: int, stamp: int, position: np.ndarray) -> Reaction:
        """Measured joint positions [J] of the robot at `stamp` (ns)."""
        self._follower = RobotState(stamp, position)
        if self._hands is None:
            return self._try(now)
        self._hands.advance(now, self._follower, self.engaged)
        reaction = self._try(now)
        if reaction.command is not None or not self.engaged:
            return reaction
        return Reaction(self._command(), refusal=reaction.refusal)

    def on_executed(self, stamp: int, position: np.ndarray) -> None:
        """What the arbiter commanded [J] in answer to the joint state at `stamp` (ns): where a takeover begins."""
        self._executed = RobotState(stamp, position)

    def watch(self, now: int, joy_present: bool) -> Reaction:
        """Let go when joystick or leader is gone or silent; call it a few times a second.

        `joy_present`: somebody publishes joy.
        """
        if all(grip is Grip.RELEASED for grip in self.grips.values()):
            return Reaction()
        if not joy_present:
            return self._lose("The joystick is gone while the dead-man was held: the robot holds.")
        silent = now - self._joy_received
        if self._joy_timeout and silent > self._joy_timeout:
            return self._lose(f"No joy message for {silent * 1e-9:.2f} s while the dead-man was held: the robot holds.")
        return self._silence(now) or Reaction()

    # What follows -------------------------------------------------------------------------------------------------

    def _grip(self, now: int) -> Reaction:
        """Follow the dead-men."""
        deadmen = self._deadmen
        if deadmen.held and deadmen.absence:
            self.refusal = deadmen.absence
            return Reaction(refusal=self.refusal)
        let_go = [group for group in self.engaged if group not in deadmen.held]
        for group, grip in self.grips.items():
            if group not in deadmen.held:
                self.grips[group] = Grip.RELEASED
            elif grip is Grip.RELEASED and deadmen.counts(group):
                self.grips[group] = Grip.WAITING
        if not deadmen.held:
            self.refusal = ""
        reaction = self._try(now)
        if reaction.command is None and let_go:
            return Reaction(self._command(), refusal=reaction.refusal)
        return reaction

    def _try(self, now: int) -> Reaction:
        """Engage the waiting groups whose input is there."""
        if self._follower is None:
            return Reaction()
        follower, source = self._follower, self._source
        waiting = [group for group, grip in self.grips.items() if grip is Grip.WAITING]
        ready = [group for group in waiting if source.ready(now, group, follower)]
        if not ready:
            return Reaction()
        refusals = {group: source.refusal(group, follower.position) for group in ready}
        bad = {group for group, why in refusals.items() if why}
        if bad and self._deadmen.takes_all:
            bad = set(ready)
        start = self._command_so_far()
        for group in ready:
            self.grips[group] = Grip.REFUSED if group in bad else Grip.ENGAGED
            if group not in bad:
                source.start(now, group, start)
        self.refusal = " ".join(dict.fromkeys(why for why in refusals.values() if why))
        return Reaction(self._command() if len(bad) < len(ready) else None, refusal=self.refusal)

    def _command(self) -> Teleop:
        """Return the command of all engaged groups."""
        if not self.engaged:
            return self.released()
        command = self._source.command(self.engaged)
        self._stamp = command.stamp
        return command

    def _command_so_far(self) -> np.ndarray:
        """Return where the robot was last told to be [J]: a grip stays as firm as it was.

        Where that is not what the robot does (no command lately, a robot moved by hand) it is the measured position.
        """
        assert self._follower is not None
        measured, told = self._follower.position, self._executed
        if told is None or not 0 <= self._follower.stamp - told.stamp <= self._contract.staleness.joint_states * 1e9:
            return measured
        near = np.abs(told.position - measured) <= self._contract.takeover.alignment_tolerance
        return np.where(near | ~self._angular, told.position, measured)

    def _silence(self, now: int) -> Reaction | None:
        for group in self.engaged:
            why = self._source.silence(now, group)
            if why:
                return self._lose(why)
        return None

    def _unusable(self, groups: tuple[str, ...], complaint: str) -> Reaction:
        if any(self.grips[group] is Grip.ENGAGED for group in groups):
            return self._lose(complaint)
        waiting = [group for group in groups if self.grips[group] is Grip.WAITING]
        for group in waiting:
            self.grips[group] = Grip.REFUSED
        if not waiting:
            return Reaction()
        self.refusal = f"Takeover refused: {complaint[0].lower()}{complaint[1:]}"
        return Reaction(refusal=self.refusal)

    def _lose(self, why: str) -> Reaction:
        """Let every group go, and hold if one was driven."""
        driven = bool(self.engaged)
        for group in self.grips:
            self.grips[group] = Grip.RELEASED
        self._deadmen.lose()
        self._joystick.forget_rest()
        self.refusal = why
        return Reaction(refusal=why, hold=driven)

"""Leader arms: what they say per joint group, whether they stand where the robot stands, and the ramp-in; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.control import RobotState, Teleop


@dataclass(frozen=True)
class _Arm:
    """The newest message of one group's leader."""

    stamp: int  # ns
    joints: np.ndarray  # contract indices [n]
    positions: np.ndarray  # [n]
    received: int  # monotonic ns


@dataclass(frozen=True)
class _Ramp:
    """From the robot's command to the leader: `offset` [J] fades out from `start` (ns, clock of the ramp) on."""

    start: int
    offset: np.ndarray


class LeaderArms:
    """Leaders of all joint groups, in one message or a message each.

    `now` is a monotonic clock in ns. The ramp runs on it, in lock-step on the leader's stamps. A message is fresh if
    it came within the contract's teleop staleness, in lock-step if it answers the newest joint state.
    """

    def __init__(self, contract: RobotContract, *, lockstep: bool) -> None:
        self._contract = contract
        self._lockstep = lockstep
        self._limit = contract.staleness.teleop * 1e9
        self._angular = np.array([joint.unit == "rad" for joint in contract.joints])
        self._arms: dict[str, _Arm] = {}
        self._ramps: dict[str, _Ramp] = {}

    def take(self, now: int, stamp: int, joints: np.ndarray, positions: np.ndarray) -> tuple[tuple[str, ...], str]:
        """Keep `positions` [n] of contract joints `joints` [n]; return the groups named, and why they are unusable."""
        groups = self._contract.group_of[joints]
        named = tuple(self._contract.groups[group] for group in np.unique(groups))
        if len(joints) == 0 or not np.isfinite(positions).all():
            return named or self._contract.groups, "The leader has no finite joint positions."
        for index in np.unique(groups):
            of_group = groups == index
            self._arms[self._contract.groups[index]] = _Arm(stamp, joints[of_group], positions[of_group], now)
        return named, ""

    def ready(self, now: int, group: str, follower: RobotState) -> bool:
        """Return whether a fresh message of the group's leader is there."""
        arm = self._arms.get(group)
        if arm is None:
            return False
        return arm.stamp >= follower.stamp if self._lockstep else now - arm.received <= self._limit

    def refusal(self, group: str, measured: np.ndarray) -> str:
        """Return why the leader must not drive the robot at `measured` [J] yet, empty if it may."""
        arm = self._arms[group]
        difference = np.where(self._angular[arm.joints], np.abs(arm.positions - measured[arm.joints]), 0.0)
        worst = int(difference.argmax())
        tolerance = self._contract.takeover.alignment_tolerance
        if difference[worst] <= tolerance:
            return ""
        return (
            f"Takeover refused: leader and robot differ by {difference[worst]:.2f} rad at "
            f"{self._contract.joint_names[arm.joints[worst]]}, at most {tolerance} is allowed: "
            "align the leader, release the dead-man and press it again."
        )

    def start(self, now: int, group: str, command: np.ndarray) -> None:
        """Let the ramp begin at the robot's `command` [J]."""
        arm = self._arms[group]
        offset = np.zeros_like(command)
        offset[arm.joints] = command[arm.joints] - arm.positions
        self._ramps[group] = _Ramp(self._clock(arm), offset)

    def silence(self, now: int, group: str) -> str:
        """Return why the leader of a driven group is lost, empty if it is there."""
        arm = self._arms[group]
        if self._lockstep or now - arm.received <= self._limit:
            return ""
        return f"The {group} leader was silent for {(now - arm.received) * 1e-9:.2f} s while it drove: the robot holds."

    def command(self, groups: tuple[str, ...]) -> Teleop:
        """Return what the leaders of `groups` ask for now; its stamp is the oldest of theirs."""
        arms = [self._arms[group] for group in groups]
        positions = [self._ramped(self._arms[group], self._ramps[group]) for group in groups]
        stamp = min(arm.stamp for arm in arms)
        return Teleop(stamp, True, np.concatenate([arm.joints for arm in arms]), np.concatenate(positions))

    def _ramped(self, arm: _Arm, ramp: _Ramp) -> np.ndarray:
        duration = self._contract.takeover.ramp * 1e9
        if duration == 0.0:
            return arm.positions
        done = min(max((self._clock(arm) - ramp.start) / duration, 0.0), 1.0)
        left = 1.0 - done * done * (3.0 - 2.0 * done)
        return arm.positions + left * ramp.offset[arm.joints]

    def _clock(self, arm: _Arm) -> int:
        return arm.stamp if self._lockstep else arm.received

"""What a simulated robot is to the station: arms on a table, their joints, cameras and home."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np


@dataclass(frozen=True)
class Arm:
    """One arm by its MJCF names. The pinch site lies between the pads: x points where the gripper does, y across."""

    name: str
    joints: tuple[str, ...]  # base to wrist
    fingers: tuple[str, str]  # slide joints, m; the second mirrors the first with the sign changed
    finger_bodies: tuple[str, str]
    pinch: str  # site
    base: np.ndarray  # [3], m, world: where the first joint's axis meets the table
    reach: float  # m, horizontally from the base, for a hand that points down at the table


class Robot(ABC):
    """A robot on the table; world frame: x right, y away from the operator, z up from the table top."""

    name: ClassVar[str]
    joints: ClassVar[dict[str, str]]  # contract joint -> MJCF joint, all that must be commanded
    cameras: ClassVar[tuple[str, ...]]
    arms: ClassVar[dict[str, Arm]]
    home: ClassVar[dict[str, float]]  # contract joint -> rad, m for grippers
    open_gripper: ClassVar[float]  # m, finger command
    shut_gripper: ClassVar[float]  # m, finger command at which the pads meet

    @abstractmethod
    def build(self, timestep: float) -> mujoco.MjSpec:
        """Return the robot on its table under its cameras, no task objects; `timestep` in s."""

    def arm_joints(self, arm: str) -> list[str]:
        """Return the contract's names of an arm's joints, base to wrist, gripper last."""
        names = {mjcf: name for name, mjcf in self.joints.items()}
        return [names[j] for j in (*self.arms[arm].joints, self.arms[arm].fingers[0])]


def servo(spec: mujoco.MjSpec, joint: mujoco.MjsJoint, stiffness: float, force: float) -> None:
    """Drive `joint` to commanded positions, critically damped; N·m/rad and N·m (N/m and N for slides)."""
    actuator = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(stiffness, dampratio=1.0)
    actuator.ctrllimited, actuator.ctrlrange = True, joint.range
    actuator.forcelimited, actuator.forcerange = True, [-force, force]

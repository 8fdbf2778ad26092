"""The robots that the simulator can be; one file each."""

from __future__ import annotations

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_sim.robots.aloha import Aloha
from aloe_sim.robots.base import Arm, Robot
from aloe_sim.robots.desk import Desk

ROBOTS: tuple[type[Robot], ...] = (Aloha, Desk)

__all__ = ["ROBOTS", "Arm", "Robot", "robot_for"]


def robot_for(contract: RobotContract) -> Robot:
    """Return the robot whose joints and cameras the contract names; AloeError if no robot here can serve it."""
    names = set(contract.joint_names)
    robot = max(ROBOTS, key=lambda kind: len(names & set(kind.joints)))()
    for name in contract.joint_names:
        if name not in robot.joints:
            raise AloeError(
                f"Contract {contract.name}: the simulator has no joint {name!r}; it has {', '.join(robot.joints)}."
            )
    for name in robot.joints:
        if name not in names:
            raise AloeError(f"Contract {contract.name}: no joint {name!r}, which the simulated station moves.")
    for name in contract.camera_names:
        if name not in robot.cameras:
            raise AloeError(
                f"Contract {contract.name}: the simulator has no camera {name!r}; it has {', '.join(robot.cameras)}."
            )
    return robot

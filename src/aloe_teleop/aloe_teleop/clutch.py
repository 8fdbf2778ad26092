"""Moving an end effector with a joystick: from a twist to joint steps; pure.

A damped pseudo-inverse of MuJoCo's Jacobian rather than mink's quadratic programme: that one bends the asked direction
at a speed limit, here it is kept and the speed drops.
"""

from __future__ import annotations

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.kinematics import RobotModel

_WEAK_LINEAR = 0.05  # m/rad; directions in which the arm moves worse than this are driven more slowly
_WEAK_ANGULAR = 0.2  # rad/rad
_RANK = 1e-9  # m/rad; a direction in which joints move the hand less than this counts as free to turn it
_LONGEST = 0.1  # s; a joint state that came later than this moves no further
_LEASH = 0.25  # s of a joint's speed; the command runs no further ahead of a robot that does not follow


class Jog:
    """Steps of one group's end effector; the position comes first, the rotation takes what freedom is left."""

    def __init__(self, contract: RobotContract, model: RobotModel | None) -> None:
        """Raise AloeError if the contract has no model: without one the joystick cannot move an end effector."""
        if model is None:
            raise AloeError(
                f"Contract {contract.name}: model is missing: expected the robot's model, "
                "through which a joystick moves end effectors."
            )
        self._contract = contract
        self._model = model
        self.groups = model.groups
        middle = (contract.lower + contract.upper) / 2
        self._joints: dict[str, np.ndarray] = {}
        self._gripper: dict[str, np.ndarray] = {}
        for group in model.groups:
            own = np.flatnonzero(contract.group_of == contract.groups.index(group))
            moves = np.linalg.norm(model.jacobian(group, middle)[:, own], axis=0) > 1e-6
            self._joints[group], self._gripper[group] = own[moves], own[~moves]

    def joints(self, group: str) -> np.ndarray:
        """Return the contract indices of a group's arm and gripper joints."""
        return np.sort(np.concatenate([self._joints[group], self._gripper[group]]))

    def step(
        self, group: str, command: np.ndarray, measured: np.ndarray, twist: np.ndarray, gripper: float, dt: float
    ) -> np.ndarray:
        """Return the command [J] after `dt` s of `twist` [6] (m/s, rad/s, base frame) and `gripper` (unit/s).

        `command` [J] is the one so far, within the contract's limits; those of position and speed hold afterwards.
        """
        dt = min(max(dt, 0.0), _LONGEST)
        contract, moved = self._contract, command.copy()
        joints, fingers = self._joints[group], self._gripper[group]
        moved[joints] += dt * self._velocity(group, command, twist, dt)
        speed = contract.velocity
        moved[fingers] += dt * np.clip(gripper, -speed[fingers], speed[fingers])
        moved = np.clip(moved, contract.lower, contract.upper)
        behind, ahead = measured - _LEASH * speed, measured + _LEASH * speed
        moved[joints] = np.clip(moved, np.minimum(command, behind), np.maximum(command, ahead))[joints]
        return moved

    def _velocity(self, group: str, q: np.ndarray, twist: np.ndarray, dt: float) -> np.ndarray:
        """Return velocities [n] of the arm's joints; a joint at its limit stands still and the others take over."""
        joints, contract = self._joints[group], self._contract
        jacobian = self._model.jacobian(group, q)[:, joints]
        free = np.ones(len(joints), dtype=bool)
        velocity = np.zeros(len(joints))
        while free.any():
            velocity[:] = 0.0
            velocity[free] = solve(jacobian[:, free], twist)
            velocity /= max(1.0, float(np.abs(velocity / contract.velocity[joints]).max()))
            after = q[joints] + dt * velocity
            blocked = free & ((after < contract.lower[joints]) | (after > contract.upper[joints]))
            if not blocked.any():
                return velocity
            free &= ~blocked
        return np.zeros(len(joints))


def solve(jacobian: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """Return joint velocities [n] for `jacobian` [6, n] and `twist` [6].

    The linear part is met exactly where the arm is well away from singular, else as far as bounded speeds allow; the
    angular part never disturbs it.
    """
    linear, angular = jacobian[:3], jacobian[3:]
    velocity = _inverse(linear, _WEAK_LINEAR) @ twist[:3]
    _, sizes, right = np.linalg.svd(linear)
    used = right[: len(sizes)][sizes > _RANK]
    rest = np.eye(jacobian.shape[1]) - used.T @ used
    turned = _inverse(angular @ rest, _WEAK_ANGULAR) @ (twist[3:] - angular @ velocity)
    step: np.ndarray = velocity + rest @ turned
    return step


def _inverse(matrix: np.ndarray, weak: float) -> np.ndarray:
    """Pseudo-inverse, norm at most 1/weak: a singular value below `weak` counts less the smaller it is."""
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    return right.T @ ((sizes / np.maximum(sizes, weak) ** 2)[:, None] * left.T)

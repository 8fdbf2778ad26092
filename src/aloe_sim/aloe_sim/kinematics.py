"""Where the hands are for given joints, and the joints for given hands (mink's differential inverse kinematics)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mink
import numpy as np

from aloe_sim.robots.base import Robot

_ITERATIONS = 3  # a command follows the one before, so the first guess is never far away
_CLOSE = 1e-4  # m and rad: no further iteration
_ORIENTATION_COST = 0.25  # per rad, against 1 per m and an arm's length of it: where out of reach, the hand tilts first
_DAMPING = 1e-6
_LONGEST = 0.3  # rad or m a joint, per iteration


@dataclass(frozen=True)
class Pose:
    """A hand or an object in the world frame."""

    point: np.ndarray  # [3], m
    rotation: np.ndarray  # [3, 3]; of a hand: x where the gripper points, y across the fingers


class Kinematics:
    """Forward and inverse kinematics of a robot's arms; joint vectors are in the order of `joint_names`."""

    def __init__(self, robot: Robot, joint_names: list[str]) -> None:
        spec = robot.build(0.002)
        for arm in robot.arms.values():
            for finger in arm.fingers:
                spec.delete(next(a for a in spec.actuators if a.target == finger))
                spec.delete(spec.joint(finger))
        model = spec.compile()
        self._configuration = mink.Configuration(model)
        self._limits = [mink.ConfigurationLimit(model, min_distance_from_limits=0.01)]
        fingers = {arm.fingers[0] for arm in robot.arms.values()}
        moving = [(i, robot.joints[n]) for i, n in enumerate(joint_names) if robot.joints[n] not in fingers]
        self._columns = np.array([i for i, _ in moving])
        self._qpos = np.array([model.joint(j).qposadr[0] for _, j in moving])
        self._low, self._high = model.jnt_range.T
        self._arms = robot.arms
        self._tasks = {
            name: mink.FrameTask(arm.pinch, "site", position_cost=1.0, orientation_cost=_ORIENTATION_COST)
            for name, arm in robot.arms.items()
        }

    def poses(self, positions: np.ndarray) -> dict[str, Pose]:
        """Return the pose of each arm's pinch point at joint `positions` [J]."""
        self._put(positions)
        data = self._configuration.data
        return {
            name: Pose(data.site(arm.pinch).xpos.copy(), data.site(arm.pinch).xmat.reshape(3, 3).copy())
            for name, arm in self._arms.items()
        }

    def reach(self, positions: np.ndarray, targets: Mapping[str, Pose], iterations: int = _ITERATIONS) -> np.ndarray:
        """Return `positions` [J] with the arms moved so that their pinch points come to `targets`, as near as they can.

        Local: the solution next to `positions`. Gripper joints stay as they are.
        """
        self._put(positions)
        for name, target in targets.items():
            self._tasks[name].set_target(_se3(target))
        tasks = [self._tasks[name] for name in targets]
        for _ in range(iterations):
            if all(np.abs(task.compute_error(self._configuration)).max() < _CLOSE for task in tasks):
                break
            velocity = mink.solve_ik(
                self._configuration, tasks, 1.0, solver="daqp", damping=_DAMPING, limits=self._limits
            )
            step = velocity * min(1.0, _LONGEST / max(float(np.abs(velocity).max()), 1e-9))
            self._configuration.integrate_inplace(step, 1.0)
        found = positions.copy()
        found[self._columns] = self._configuration.q[self._qpos]
        return found

    def _put(self, positions: np.ndarray) -> None:
        q = self._configuration.q.copy()
        q[self._qpos] = positions[self._columns]
        # Physics carries joints a little over their limits, from where the solver would find no way.
        self._configuration.update(np.clip(q, self._low + 1e-6, self._high - 1e-6))


def down(opening: float) -> np.ndarray:
    """Return the rotation [3, 3] of a hand that points down, its fingers opening along `opening`, rad from world x."""
    return facing(np.array([0.0, 0.0, -1.0]), np.array([np.cos(opening), np.sin(opening), 0.0]))


def facing(approach: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return the rotation [3, 3] of a hand that points along `approach` [3] and opens along `across` [3], about."""
    x = approach / np.linalg.norm(approach)
    y = across - (across @ x) * x
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def nearest_grasp(rotation: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Return `rotation` [3, 3] or the same with the fingers exchanged, whichever is the smaller turn from `current`."""
    flipped = rotation * np.array([1.0, -1.0, -1.0])
    return flipped if np.trace(flipped.T @ current) > np.trace(rotation.T @ current) else rotation


def turn(start: np.ndarray, end: np.ndarray, largest: float) -> np.ndarray:
    """Return `start` [3, 3] turned towards `end` by at most `largest` rad."""
    vector = rotation_vector(start.T @ end)
    angle = float(np.linalg.norm(vector))
    if angle <= largest:
        return end
    return start @ mink.SO3.exp(vector * (largest / angle)).as_matrix()


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Return axis times angle [3], rad, of a rotation matrix."""
    return np.asarray(mink.SO3.from_matrix(rotation).log())


def angle_between(one: np.ndarray, other: np.ndarray) -> float:
    """Return the angle between two rotations [3, 3], rad."""
    return float(np.arccos(np.clip((np.trace(one.T @ other) - 1) / 2, -1.0, 1.0)))


def _se3(pose: Pose) -> mink.SE3:
    return mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(pose.rotation), pose.point)

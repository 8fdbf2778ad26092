"""Closed-form kinematics of a ViperX 300s whose gripper points straight down.

World frame: x to the right, y away from the operator, z up from the table top; metres and radians.
"""

from __future__ import annotations

import numpy as np

from aloe_core.errors import AloeError

ARMS = ("left", "right")
ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
BASE = {"left": np.array([-0.469, 0.5]), "right": np.array([0.469, 0.5])}
FACING = {"left": 1.0, "right": -1.0}  # sign of x towards the middle

SHOULDER_HEIGHT = 0.079 + 0.04805
UPPER = float(np.hypot(0.05955, 0.3))
UPPER_ANGLE = float(np.arctan2(0.3, 0.05955))  # of the elbow above the horizontal at shoulder = 0
FOREARM = 0.3
PINCH = 0.139  # gripper link to the point between the pads
WRIST_TO_PINCH = 0.069744 + PINCH
NEAREST = 0.17  # m from the waist axis
LOWEST, HIGHEST = 0.008, 0.40  # m, of the pinch point
WRIST_ROTATE = np.pi / 2  # fingers open towards and away from the arm's base


def inverse(arm: str, point: np.ndarray, wrist: float = WRIST_ROTATE) -> np.ndarray:
    """Return the six arm joints [6], rad, that put the pinch point at `point` [3], m; AloeError if out of reach.

    `wrist` is the angle of wrist_rotate; the gripper points down whatever it is.
    """
    offset = (np.asarray(point[:2]) - BASE[arm]) * FACING[arm]
    radius = float(np.hypot(*offset))
    height = point[2] + WRIST_TO_PINCH - SHOULDER_HEIGHT
    reach = float(np.hypot(radius, height))
    if not abs(UPPER - FOREARM) + 0.02 < reach < UPPER + FOREARM - 1e-3:
        raise AloeError(f"Point {np.round(point, 3).tolist()} is out of the {arm} arm's reach.")
    inner = np.arccos((UPPER**2 + FOREARM**2 - reach**2) / (2 * UPPER * FOREARM))
    elbow = np.pi - UPPER_ANGLE - inner
    at_shoulder = np.arccos((UPPER**2 + reach**2 - FOREARM**2) / (2 * UPPER * reach))
    shoulder = UPPER_ANGLE - (np.arctan2(height, radius) + at_shoulder)
    waist = np.arctan2(offset[1], offset[0])
    return np.array([waist, shoulder, elbow, 0.0, np.pi / 2 - shoulder - elbow, wrist])


def wrist_for(arm: str, point: np.ndarray, opening: float) -> float:
    """Return the wrist_rotate angle nearest to the natural one with which the fingers open along `opening`, rad."""
    offset = np.asarray(point[:2]) - BASE[arm]
    turn = np.arctan2(offset[1], offset[0]) - opening
    return WRIST_ROTATE + float((turn + np.pi / 2) % np.pi - np.pi / 2)


def nearest_reachable(arm: str, point: np.ndarray) -> np.ndarray:
    """Return `point` [3], m, moved into the space over the table in which the arm can work."""
    z = float(np.clip(point[2], LOWEST, HIGHEST))
    offset = np.asarray(point[:2]) - BASE[arm]
    radius = float(np.hypot(*offset))
    if radius < 1e-6:
        offset, radius = np.array([FACING[arm], 0.0]), 1.0
    farthest = np.sqrt((UPPER + FOREARM - 0.01) ** 2 - (z + WRIST_TO_PINCH - SHOULDER_HEIGHT) ** 2)
    allowed = float(np.clip(radius, NEAREST, farthest))
    return np.append(BASE[arm] + offset * (allowed / radius), z)

"""Pieces of hand motion that the tasks' tactics share."""

from __future__ import annotations

import numpy as np

from aloe_sim.kinematics import Pose, angle_between, down, nearest_grasp
from aloe_sim.tasks.base import Intention, Scene

SQUEEZE = 0.013  # m that each finger is commanded beyond contact: some 10 N
GRASP_HEIGHT = 0.020  # m, lowest pinch point over the table
CLEARANCE = 0.06  # m above the grasp while not over the object
AT_ITEM = 0.012  # m, horizontal error at which the fingers may go down and close


def grip_for(scene: Scene, half_width: float) -> float:
    """Return the finger command, m, that holds something of this half width, m."""
    return max(0.0, scene.robot.shut_gripper + half_width - SQUEEZE)


def rise_first(here: np.ndarray, target: np.ndarray, clear: float) -> np.ndarray:
    """Return `target` [3] with the horizontal motion held back while the hand is below `clear`, m."""
    share = float(np.clip((here[2] - clear + 0.03) / 0.03, 0, 1))
    return np.append(here[:2] + share * (target[:2] - here[:2]), target[2])


def go_home(scene: Scene, arm: str) -> Intention:
    """Lift the hand, then carry it home, open."""
    home, here = scene.home_poses[arm], scene.hand(arm).point
    point = rise_first(here, home.point, clear=home.point[2] - 0.05)
    return Intention(Pose(point, home.rotation), scene.robot.open_gripper, at_work=False)


def natural_opening(scene: Scene, arm: str, point: np.ndarray) -> float:
    """Return the direction, rad, in which a hand over `point` opens with its wrist at rest: away from the base."""
    offset = point[:2] - scene.robot.arms[arm].base[:2]
    return float(np.arctan2(offset[1], offset[0]))


def pick(
    scene: Scene,
    arm: str,
    item: np.ndarray,
    aim: np.ndarray,
    grip: float,
    opening: float | None = None,
    lowest: float = GRASP_HEIGHT,
) -> Intention:
    """Come down over the point `item` [3] and close to `grip`; `opening` (rad) None: as the wrist comes."""
    hand = scene.hand(arm)
    target = item + aim
    height = max(lowest, item[2])
    distance = float(np.hypot(*(target[:2] - hand.point[:2])))
    rotation = nearest_grasp(down(natural_opening(scene, arm, item) if opening is None else opening), hand.rotation)
    upright = angle_between(rotation, hand.rotation) < 0.2
    # A funnel: down only as far as the fingers are already around the object.
    share = float(np.clip((distance - AT_ITEM) / 0.03, 0, 1)) if upright else 1.0
    over = np.array([target[0], target[1], height + CLEARANCE * share])
    around = distance < AT_ITEM + 0.008 and hand.point[2] < height + 0.010
    point = rise_first(hand.point, over, clear=over[2] - 0.015)
    return Intention(Pose(point, rotation), grip if around else scene.robot.open_gripper)


def carry(
    scene: Scene,
    arm: str,
    target: np.ndarray,
    grip: float,
    let_go_within: float = 0.03,
    rotation: np.ndarray | None = None,
) -> Intention:
    """Carry what is held to `target` [3], rising first, and open there; `rotation` None: as it is now, upright."""
    hand = scene.hand(arm)
    if rotation is None:
        across = hand.rotation[:, 1]
        rotation = nearest_grasp(down(float(np.arctan2(across[1], across[0]))), hand.rotation)
    if np.hypot(*(target[:2] - hand.point[:2])) < let_go_within:
        return Intention(Pose(target, rotation), scene.robot.open_gripper)
    return Intention(Pose(rise_first(hand.point, target, clear=target[2] - 0.005), rotation), grip)

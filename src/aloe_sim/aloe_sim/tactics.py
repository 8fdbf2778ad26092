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
    across = natural_opening(scene, arm, item) if opening is None else opening
    return close_on(scene, arm, item, aim, grip, nearest_grasp(down(across), scene.hand(arm).rotation), lowest=lowest)


def close_on(
    scene: Scene,
    arm: str,
    item: np.ndarray,
    aim: np.ndarray,
    grip: float,
    rotation: np.ndarray,
    opened: float | None = None,
    lowest: float = GRASP_HEIGHT,
) -> Intention:
    """As `pick`, with the hand turned to `rotation` [3, 3], its fingers as far apart as `opened`, None: all the way."""
    hand = scene.hand(arm)
    target = item + aim
    height = max(lowest, item[2])
    distance = float(np.hypot(*(target[:2] - hand.point[:2])))
    upright = angle_between(rotation, hand.rotation) < 0.2
    # A funnel: down only as far as the fingers are already around the object.
    share = float(np.clip((distance - AT_ITEM) / 0.03, 0, 1)) if upright else 1.0
    over = np.array([target[0], target[1], height + CLEARANCE * share])
    around = distance < AT_ITEM + 0.008 and hand.point[2] < height + 0.010
    point = rise_first(hand.point, over, clear=over[2] - 0.015)
    return Intention(Pose(point, rotation), grip if around else scene.robot.open_gripper if opened is None else opened)


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


def resting(scene: Scene, arm: str, point: np.ndarray, opening: float | None = None) -> np.ndarray:
    """Return the rotation [3, 3] of a hand over `point` that points down and opens along `opening`, rad; None: anyhow.

    Of the two such rotations the one nearer to the middle of the wrist's range, which is where it is at home.
    """
    home = scene.home_poses[arm]
    around = natural_opening(scene, arm, point) - natural_opening(scene, arm, home.point)
    c, s = np.cos(around), np.sin(around)
    rest = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ home.rotation
    return rest if opening is None else nearest_grasp(down(opening), rest)


def put_down(
    scene: Scene,
    arm: str,
    item: str,
    target: np.ndarray,
    grip: float,
    released: float,
    rotation: np.ndarray,
    travel: float,
) -> Intention:
    """Carry the held `item` to `target` [3], the hand turned to `rotation`, set it down there, open to `released`.

    On the way it is `travel` m over the target; it is let go where it stands on anything.
    """
    hand = scene.hand(arm)
    point = held_at(scene, arm, item, target, rotation)
    distance = float(np.hypot(*(point[:2] - hand.point[:2])))
    aligned = angle_between(rotation, hand.rotation) < 0.1
    share = float(np.clip((distance - AT_ITEM / 2) / 0.03, 0, 1)) if aligned else 1.0
    above = hand.point[2] - point[2]
    stands = above < 0.005 or (above < travel / 2 and scene.supported(item))
    if distance < AT_ITEM and aligned and stands:
        return Intention(Pose(np.append(point[:2], hand.point[2]), rotation), released)
    over = np.append(point[:2], point[2] + travel * share)
    if above < travel - 0.04 and distance > 0.05:  # up first, and only then around
        across = hand.rotation[:, 1]
        rotation = nearest_grasp(down(float(np.arctan2(across[1], across[0]))), hand.rotation)
    return Intention(Pose(rise_first(hand.point, over, clear=over[2] - 0.01), rotation), grip)


def held_at(scene: Scene, arm: str, item: str, target: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return where the hand, turned to `rotation`, has the held `item` at `target` [3], m."""
    hand = scene.hand(arm)
    return np.asarray(target - rotation @ hand.rotation.T @ (scene.position(item) - hand.point))

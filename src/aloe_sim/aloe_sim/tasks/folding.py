"""Folds of a square cloth: what to take, along which line, to where; and the two-handed tactic that makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aloe_sim.kinematics import Pose, angle_between, facing, nearest_grasp
from aloe_sim.tactics import CLEARANCE, natural_opening, rise_first
from aloe_sim.tasks.base import Intention, Scene, Tactic
from aloe_sim.tasks.cloth import COUNT, TIP, Cloth

PLACED = 0.018  # m, horizontally, from a corner to the one it was brought to: closer together than fingers reach
TOGETHER = 0.027  # m, layers of corners that have been brought together are never farther apart
LOWEST = 0.006  # m, of the finger tips over the table
HALF_OPEN = 0.038  # m, finger command between two grasps: room for another hand close by
_LAST = COUNT - 1
_MIDDLE = COUNT // 2
_AT = 0.008  # m, tip to point, at which fingers close
_ARC = 0.85  # height of the way over the fold line, of its half length: the cloth stays slack
_AHEAD = 0.45  # rad along the way, that the target is ahead of the hand
_TOGETHER = 0.25  # rad that one hand may be ahead of the other
_SPREAD = 0.4  # rad from either end of the way, within which a corner counts as lying where it should
_BACK = 2.5  # s at most of laying back
_LAID = 0.007  # m from the end of the way, where the fingers open
_LEAN = 0.4  # rad that a hand leans outwards at the end of its arm's reach
_REACH = (0.42, 0.56)  # m from the arm's base, in which it comes to lean


@dataclass(frozen=True)
class Corner:
    """A corner to be brought over: vertices [i, j] of all its layers, and what lies on the fold line and beyond it."""

    vertices: tuple[tuple[int, int], ...]
    line: tuple[tuple[int, int], ...]
    goal: tuple[tuple[int, int], ...]

    def held(self, held: np.ndarray) -> bool:
        """Return whether all its layers are held; `held` as from Cloth.held."""
        return all(held[v] for v in self.vertices)


def mean(places: np.ndarray, vertices: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Return the mean place, [3], of some vertices of `places` [COUNT, COUNT, 3]."""
    return np.mean([places[v] for v in vertices], axis=0)


def gap(places: np.ndarray, axis: int) -> float:
    """Return how far the corners are, m, that the fold across `axis` (0: x, 1: y of the cloth) brings together."""
    first, last = np.take(places, 0, axis), np.take(places, _LAST, axis)
    return float(np.linalg.norm((first - last)[[0, _LAST]], axis=1).max())


def corners(axis: int, doubled: bool) -> tuple[Corner, Corner]:
    """Return what is brought over in the fold across `axis`; `doubled`: the cloth has been folded across the other."""

    def at(along: tuple[int, ...], across: int) -> tuple[tuple[int, int], ...]:
        return tuple((a, across) if axis == 1 else (across, a) for a in along)

    ends = ((_MIDDLE,), (0, _LAST)) if doubled else ((0,), (_LAST,))
    one, other = (Corner(at(end, 0), at(end, _MIDDLE), at(end, _LAST)) for end in ends)
    return one, other


def unfinished(places: np.ndarray, folds: int) -> int | None:
    """Return the axis of the fold to be made now, None if there are `folds`: y first, unless it is folded across x."""
    done = [gap(places, axis) < TOGETHER for axis in (0, 1)]
    if sum(done) >= folds:
        return None
    return 0 if done[1] else 1


def in_hand(places: np.ndarray, held: np.ndarray) -> int | None:
    """Return the axis of a fold that is made but still held: a corner, not its counterpart; `held` by any hand."""
    for axis in (1, 0):
        near, far = np.take(held, 0, axis), np.take(held, _LAST, axis)
        if gap(places, axis) < TOGETHER and (near[[0, _LAST]] & ~far[[0, _LAST]]).any():
            return axis
    return None


def assign(scene: Scene, cloth: Cloth, pair: tuple[Corner, Corner]) -> dict[str, Corner]:
    """Return each arm's corner: the one it holds, else such that the arms do not cross."""
    places = cloth.vertices(scene)
    first, second = sorted(scene.robot.arms, key=lambda arm: scene.robot.arms[arm].base[0])
    offset = mean(places, pair[1].vertices) - mean(places, pair[0].vertices)
    swap = bool(offset[np.argmax(np.abs(offset[:2]))] < 0)
    holds = {arm: [corner.held(cloth.held(scene, arm)) for corner in pair] for arm in (first, second)}
    if holds[first][0] or holds[second][1]:
        swap = False
    elif holds[first][1] or holds[second][0]:
        swap = True
    return {first: pair[int(swap)], second: pair[1 - int(swap)]}


class Folder(Tactic):
    """Both hands take the corners of a side, carry them over the fold line together, lay them down, and so on.

    What was dropped on the way is first laid back, so that the cloth lies spread.
    """

    def __init__(self, cloth: Cloth, folds: int) -> None:
        self._cloth = cloth
        self._folds = folds
        self._missed: set[str] = set()  # arms whose shut fingers have nothing: until they are open, they must open
        self._taking = False  # at the tick before, a corner had still to be taken
        self._back_until = 0.0  # s, while laying back: the way is judged by a cloth that may slide along

    def intend(self, scene: Scene, aim: np.ndarray) -> dict[str, Intention]:
        cloth, places = self._cloth, self._cloth.vertices(scene)
        held = {arm: cloth.held(scene, arm) for arm in scene.robot.arms}
        axis = in_hand(places, np.any(list(held.values()), axis=0))
        axis = unfinished(places, self._folds) if axis is None else axis
        if axis is None:
            return {arm: self._let_go(scene, arm) for arm, what in held.items() if what.any()}
        doubled = gap(places, 1 - axis) < TOGETHER
        duties = assign(scene, cloth, corners(axis, doubled))
        waiting = {arm: c for arm, c in duties.items() if held[arm].any() or not _placed(places, c)}
        if not waiting:
            return {}
        if all(corner.held(held[arm]) for arm, corner in waiting.items()):
            return self._move(scene, waiting, doubled, aim)
        self._taking = True
        wishes = {}
        for arm, corner in waiting.items():
            if corner.held(held[arm]):
                wishes[arm] = Intention(scene.hand(arm), scene.robot.shut_gripper, at_work=False)
            elif held[arm].any() and scene.opening(arm) < scene.robot.shut_gripper + 0.003:
                self._missed.add(arm)
                wishes[arm] = self._let_go(scene, arm)
            else:
                wishes[arm] = self._take(scene, arm, mean(places, corner.vertices), aim)
        return wishes

    def _move(self, scene: Scene, duties: dict[str, Corner], doubled: bool, aim: np.ndarray) -> dict[str, Intention]:
        """What each arm does with the corner it holds."""
        angles = {arm: self._angle(scene, arm, corner) for arm, corner in duties.items()}
        if self._taking and len(duties) == 2 and _SPREAD < min(angles.values()) < np.pi - _SPREAD:
            self._back_until = scene.time + _BACK
        self._taking = False
        if max(angles.values()) < 0.5 * _SPREAD:
            self._back_until = 0.0
        wishes = {}
        for arm, corner in duties.items():
            if scene.time < self._back_until:
                angle = max(0.0, max(angles[arm], max(angles.values()) - _TOGETHER) - _AHEAD)
            else:
                angle = min(np.pi, min(angles[arm], min(angles.values()) + _TOGETHER) + _AHEAD)
            wishes[arm] = self._carry(scene, arm, corner, angle, doubled, aim)
        return wishes

    def _take(self, scene: Scene, arm: str, point: np.ndarray, aim: np.ndarray) -> Intention:
        """Come down over `point` [3] with the finger tips around it, and close."""
        hand, shut = scene.hand(arm), scene.robot.shut_gripper
        if scene.opening(arm) > shut + 0.015:
            self._missed.discard(arm)
        elif scene.opening(arm) < shut + 0.001:
            self._missed.add(arm)
        rotation = _leaning(scene, arm, point)
        tip = point + aim
        tip[2] = max(LOWEST, point[2])
        target = tip - TIP * rotation[:, 0]
        distance = float(np.hypot(*(target - hand.point)[:2]))
        upright = angle_between(rotation, hand.rotation) < 0.2
        share = float(np.clip((distance - _AT) / 0.03, 0, 1)) if upright else 1.0
        over = target + np.array([0, 0, CLEARANCE * share])
        around = distance < _AT and hand.point[2] < target[2] + _AT and upright
        grip = shut if around and arm not in self._missed else HALF_OPEN
        return Intention(Pose(rise_first(hand.point, over, clear=over[2] - 0.015), rotation), grip)

    def _angle(self, scene: Scene, arm: str, corner: Corner) -> float:
        """Return how far the arm has come on its way over the fold line, 0..pi."""
        line, towards, length = self._way(scene, corner)
        along = (self._cloth.tip(scene, arm) - line) @ towards
        return float(np.arccos(np.clip(-along / length, -1, 1)))

    def _carry(self, scene: Scene, arm: str, corner: Corner, ahead: float, doubled: bool, aim: np.ndarray) -> Intention:
        """Go to the angle `ahead` on the arc over the fold line, and open at its end."""
        line, towards, length = self._way(scene, corner)
        low = LOWEST + (0.007 if doubled else 0.003)
        tip = line - length * np.cos(ahead) * towards + aim
        tip[2] = low + _ARC * length * np.sin(ahead)
        rotation = _leaning(scene, arm, tip)
        here = self._cloth.tip(scene, arm)
        laid = np.hypot(*(here - tip)[:2]) < _LAID and here[2] < low + _LAID and ahead == np.pi
        # Once they give way, they open, wherever the hand wanders.
        opening = scene.opening(arm) > scene.robot.shut_gripper + 0.003
        grip = HALF_OPEN if laid or (opening and ahead == np.pi) else scene.robot.shut_gripper
        return Intention(Pose(tip - TIP * rotation[:, 0], rotation), grip)

    def _way(self, scene: Scene, corner: Corner) -> tuple[np.ndarray, np.ndarray, float]:
        """Return a point of the fold line [3], the horizontal unit vector [3] over it, and the way to go on, m."""
        places = self._cloth.vertices(scene)
        line = mean(places, corner.line)
        towards = (mean(places, corner.goal) - line) * [1, 1, 0]
        length = float(np.linalg.norm(towards))
        return line, towards / max(length, 1e-6), max(length, 1e-6)

    def _let_go(self, scene: Scene, arm: str) -> Intention:
        return Intention(scene.hand(arm), HALF_OPEN, at_work=False)


def _placed(places: np.ndarray, corner: Corner) -> bool:
    apart = [np.linalg.norm(places[v] - places[g]) for v, g in zip(corner.vertices, corner.goal, strict=True)]
    across = np.hypot(*(mean(places, corner.vertices) - mean(places, corner.goal))[:2])
    return bool(across < PLACED and max(apart) < TOGETHER)


def _leaning(scene: Scene, arm: str, point: np.ndarray) -> np.ndarray:
    """Return the rotation [3, 3] of a hand over `point` [3]: down, leaning outwards where the arm is stretched."""
    along = natural_opening(scene, arm, point)
    distance = float(np.hypot(*(point - scene.robot.arms[arm].base)[:2]))
    lean = _LEAN * float(np.clip((distance - _REACH[0]) / (_REACH[1] - _REACH[0]), 0, 1))
    outwards = np.array([np.cos(along), np.sin(along), 0.0])
    approach = np.sin(lean) * outwards - np.array([0, 0, np.cos(lean)])
    return nearest_grasp(facing(approach, outwards), scene.hand(arm).rotation)

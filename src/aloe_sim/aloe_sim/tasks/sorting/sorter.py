"""Sorting with two hands: one thing after the other, a long one from hand to hand if its bin is on the other side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from aloe_sim.kinematics import Pose, angle_between
from aloe_sim.tactics import GRASP_HEIGHT, close_on, go_home, grip_for, held_at, put_down, resting
from aloe_sim.tasks.base import Intention, Scene, Tactic
from aloe_sim.tasks.sorting.bins import Bin
from aloe_sim.tasks.sorting.room import middle, opening, others, reaches, slot
from aloe_sim.tasks.sorting.things import Thing

HAND_OVER = np.array([0.0, 0.455, 0.14])  # m, where the middle of a long thing goes from hand to hand
APART = 0.043  # m from that middle to either hand
TRAVEL = 0.085  # m above the bin's floor
IN_BIN = 0.028  # m, lowest pinch point over a bin's rim
PLAY = 0.014  # m that each finger is off the thing before it is taken and after it is let go
RETRACTED = 0.35  # m from its base: such a hand is in nobody's way
RISE = np.array([0.0, 0.0, 0.06])  # m, out of what the fingers are around
TANGLED, ABOVE = 0.17, 0.13  # m, across and up: so near, the fingers of two hands may be between each other
STILL = 0.01  # m/s of a finger
BESIDE = 0.05  # m from a pinch point to a thing that the fingers may be around


class Sorter(Tactic):
    """One thing at a time; what is in a hand first, then what lies in a wrong bin, then the rest in its order."""

    def __init__(self, things: Sequence[Thing], bins: Sequence[Bin], goal: Callable[[Scene, int], Bin]) -> None:
        """`goal` tells the bin of the thing of that number."""
        self._things, self._bins, self._goal = things, bins, goal

    def intend(self, scene: Scene, aim: np.ndarray) -> dict[str, Intention]:
        waiting = []
        for i, thing in enumerate(self._things):
            place, goal = scene.position(thing.item), self._goal(scene, i)
            holders = [arm for arm in scene.robot.arms if scene.touching(arm, thing.item) == 2]
            if holders or not goal.covers(place):
                astray = any(where.covers(place) for where in self._bins)
                far = not any(reaches(scene, arm, goal.centre) for arm in holders)
                waiting.append((not holders, far, not astray, i))
        intentions = {}
        if waiting:
            i = min(waiting)[-1]
            intentions = _Job(scene, self._things[i], self._goal(scene, i), self._things, self._bins).intend(aim)
        return {arm: intentions.get(arm) or self._stand_by(scene, arm) for arm in scene.robot.arms}

    def _stand_by(self, scene: Scene, arm: str) -> Intention:
        """Go home, straight up first if the fingers are around something; keep what is in the hand."""
        hand = scene.hand(arm)
        for thing in self._things:
            if scene.touching(arm, thing.item) == 2:
                return Intention(scene.home_poses[arm], grip_for(scene, thing.half_width - 0.002))
            if np.linalg.norm(thing.points(scene) - hand.point, axis=1).min() < BESIDE:
                return Intention(Pose(hand.point + RISE, hand.rotation), _beside(scene, thing))
        for other in scene.robot.arms:
            apart = hand.point - scene.hand(other).point
            if other != arm and np.hypot(*apart[:2]) < TANGLED and apart[2] < ABOVE:
                return Intention(Pose(hand.point + RISE, hand.rotation), scene.robot.open_gripper)
        return go_home(scene, arm)


class _Job:
    """One thing on its way into its bin, as of now."""

    def __init__(self, scene: Scene, thing: Thing, goal: Bin, things: Sequence[Thing], bins: Sequence[Bin]) -> None:
        self._scene, self._thing, self._goal, self._bins = scene, thing, goal, bins
        self._place = scene.position(thing.item)
        self._around = others(scene, thing, things)
        self._grip = grip_for(scene, thing.half_width - 0.002)
        self._takers = [arm for arm in scene.robot.arms if reaches(scene, arm, goal.centre)]

    def intend(self, aim: np.ndarray) -> dict[str, Intention]:
        scene, thing = self._scene, self._thing
        holders = [arm for arm in scene.robot.arms if scene.touching(arm, thing.item) == 2]
        if not holders:
            return self._take(aim)
        if len(holders) > 1:
            return self._let_go(holders)
        arm = holders[0]
        if arm in self._takers:
            return self._deliver(arm)
        if thing.long and abs((scene.hand(arm).point - self._place) @ thing.axis(scene)) > 0.6 * APART:
            return self._offer(arm, self._takers[0], aim)
        return {arm: self._set_down(arm, middle(scene, thing, self._around))}

    def _take(self, aim: np.ndarray) -> dict[str, Intention]:
        """Pick it up with the hand that can deliver it, else with the one that reaches it."""
        scene, thing = self._scene, self._thing
        near = sorted(scene.robot.arms, key=lambda a: np.hypot(*(self._place - scene.robot.arms[a].base)[:2]))
        able = [arm for arm in near if arm in self._takers and reaches(scene, arm, self._place)]
        arm = able[0] if able else near[0]
        point = self._place
        if thing.long and not able:
            point = point - APART * thing.axis(scene)
        if self._must_wait(arm, point):
            return {}
        turned = opening(scene, arm, point, thing.openings(scene), thing.half_width, self._around)
        low = IN_BIN if any(where.covers(self._place) for where in self._bins) else GRASP_HEIGHT
        rotation = resting(scene, arm, point, turned)
        return {arm: close_on(scene, arm, point, aim, self._grip, rotation, _beside(scene, thing), low)}

    def _must_wait(self, arm: str, point: np.ndarray) -> bool:
        """Whether the way to `point` leads over where another arm still is."""
        scene = self._scene
        out = [a for a, its in scene.robot.arms.items() if np.hypot(*(scene.hand(a).point - its.base)[:2]) > RETRACTED]
        far = np.hypot(*(point - scene.robot.arms[arm].base)[:2]) > RETRACTED
        return bool(far and arm not in out and out)

    def _deliver(self, arm: str) -> dict[str, Intention]:
        scene, thing = self._scene, self._thing
        points = thing.points(scene)
        for other in scene.robot.arms:
            if other != arm and np.linalg.norm(points - scene.hand(other).point, axis=1).min() < BESIDE:
                return {arm: Intention(scene.hand(arm), self._grip)}  # the giver's fingers are still around it
        return {arm: self._set_down(arm, slot(scene, arm, thing, self._goal, self._around))}

    def _set_down(self, arm: str, place: np.ndarray) -> Intention:
        scene, thing = self._scene, self._thing
        options = [0.0] if thing.long else []
        turned = opening(scene, arm, place, options, thing.half_width, self._around)
        target = np.append(place, thing.rest + 0.002)
        rotation = resting(scene, arm, place, turned)
        released = _beside(scene, thing)
        return put_down(scene, arm, thing.item, target, self._grip, released, rotation, TRAVEL)

    def _offer(self, giver: str, taker: str, aim: np.ndarray) -> dict[str, Intention]:
        """Hold a long thing out across, where the other hand takes its other end."""
        scene, thing = self._scene, self._thing
        hand = scene.hand(giver)
        rotation = resting(scene, giver, HAND_OVER, 0.0)
        point = held_at(scene, giver, thing.item, HAND_OVER, rotation)
        lifted = np.append(hand.point[:2], point[2])
        up = hand.point[2] > point[2] - 0.04
        pose = Pose(point, rotation) if up else Pose(lifted, hand.rotation)
        intentions = {giver: Intention(pose, self._grip)}
        away = float(np.linalg.norm(point - hand.point))
        end = self._far_end(giver)
        taking = resting(scene, taker, HAND_OVER, self._across(end))
        if away < 0.02 and angle_between(rotation, hand.rotation) < 0.1:
            intentions[taker] = close_on(scene, taker, end, aim, self._grip, taking)
        elif away < 0.2 and up:
            ready = HAND_OVER + np.array([0.0, np.sign(HAND_OVER[1] - point[1]) * APART, 0.09])
            intentions[taker] = Intention(Pose(ready, taking), scene.robot.open_gripper)
        return intentions

    def _let_go(self, holders: list[str]) -> dict[str, Intention]:
        """Both hold it: the one that cannot deliver it opens once the other's fingers have come to rest."""
        scene = self._scene
        taker = next((arm for arm in holders if arm in self._takers), holders[0])
        firm = abs(float(scene.data.joint(scene.robot.arms[taker].fingers[0]).qvel[0])) < STILL
        grips = {arm: _beside(scene, self._thing) if firm and arm != taker else self._grip for arm in holders}
        return {arm: Intention(scene.hand(arm), grip) for arm, grip in grips.items()}

    def _far_end(self, giver: str) -> np.ndarray:
        axis = self._thing.axis(self._scene)
        side = np.sign((self._scene.hand(giver).point - self._place) @ axis)
        return np.asarray(self._place - side * APART * axis)

    def _across(self, point: np.ndarray) -> float:
        return opening(self._scene, self._takers[0], point, self._thing.openings(self._scene), 0.0, np.zeros((0, 2)))


def _beside(scene: Scene, thing: Thing) -> float:
    """Return the finger command, m, at which the fingers are a little off the thing on both sides."""
    return min(scene.robot.open_gripper, scene.robot.shut_gripper + thing.half_width + PLAY)

"""Things of several shapes and colours into the bins that the instruction names, some from hand to hand."""

from __future__ import annotations

import mujoco
import numpy as np

from aloe_core.rotations import quaternion_from_euler
from aloe_sim.robots.base import Robot
from aloe_sim.tasks.base import Scene, Tactic, Task
from aloe_sim.tasks.sorting.bins import Bin, lies_in, lost
from aloe_sim.tasks.sorting.language import SIDES, draw_goals
from aloe_sim.tasks.sorting.sorter import Sorter
from aloe_sim.tasks.sorting.things import Thing

# One arm reaches the left bin, the other the right one, both the middle one.
_CENTRES = {"left": (-0.25, 0.705), "right": (0.25, 0.705), "middle": (0.0, 0.705)}  # m
_INNER = np.array([0.105, 0.085])  # m, half sizes
_WALL = 0.004  # m, half thickness
_RIM = 0.010  # m: a tray, out of which a hand can pick what does not belong there
_PILE = 0.10  # m; what lies in a bin has its centre lower than that
_AREA = np.array([[-0.37, 0.37], [0.27, 0.81]])  # m
_GAP = 0.082  # m from thing to thing at the start, for an open gripper to go between
_BOTH = 0.10  # m either side of the middle: both arms reach what starts there
_FAR_YAW = 0.4  # rad, either way, of a long thing
_YAW = np.pi
_CAMERA = (0.545, 33.0)  # m away from the operator; degrees: all bins and all starts
_THINGS = {
    ("three", "train"): (("red", "cube"), ("blue", "cylinder"), ("green", "bar")),
    ("three", "held_out"): (("orange", "tower"), ("purple", "cylinder"), ("cyan", "bar")),
    ("six", "train"): (
        ("red", "cube"),
        ("yellow", "cube"),
        ("blue", "cylinder"),
        ("green", "prism"),
        ("red", "bar"),
        ("blue", "bar"),
    ),
    ("six", "held_out"): (
        ("orange", "tower"),
        ("cyan", "tower"),
        ("purple", "cylinder"),
        ("pink", "prism"),
        ("orange", "bar"),
        ("purple", "bar"),
    ),
}
_SCALE = {"train": 1.0, "held_out": 0.9}
_BINS = {"three": 2, "six": 3}
_TIME_LIMIT = {"three": 32.0, "six": 58.0}  # s, about twice what the expert takes
# Where short things start, y ranges in m; where long things do, x range from the middle and y range.
_NEAR = {"train": ((0.36, 0.52),), "held_out": ((0.31, 0.345), (0.535, 0.565))}
_FAR = {"train": ((0.20, 0.255), (0.42, 0.49)), "held_out": ((0.265, 0.31), (0.42, 0.49))}
_TRIES = 1000


class SeveralBins(Task):
    """`three`: three things, two bins. `six`: six things, three bins.

    A long thing starts where one arm reaches it, and at least one belongs into a bin that only the other arm reaches.
    The goals are in MuJoCo's user data, which snapshots carry.
    """

    levels = tuple(_BINS)
    arms = 2

    def __init__(self, level: str, variant: str) -> None:
        super().__init__(level, variant)
        self.things = tuple(Thing(c, s, _SCALE[variant]) for c, s in _THINGS[level, variant])
        self.items = tuple(thing.item for thing in self.things)
        self.bins = tuple(
            Bin(f"{side}_bin", np.array(_CENTRES[side]), _INNER, _WALL, _RIM) for side in SIDES[: _BINS[level]]
        )
        self.time_limit = _TIME_LIMIT[level]

    def build(self, spec: mujoco.MjSpec, robot: Robot) -> None:
        spec.nuserdata = len(self.things)
        for place in self.bins:
            place.add(spec)
        for thing in self.things:
            thing.add(spec)
        top = spec.camera("top")
        if top is not None:
            top.pos[1], top.fovy = _CAMERA

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> str:
        goals, instruction = draw_goals(self.things, len(self.bins), rng)
        data.userdata[:] = goals
        sides = self._draw_sides(goals, rng)
        for thing, (x, y) in zip(self.things, self._draw_places(sides, rng), strict=True):
            yaw = rng.uniform(-1, 1) * (_FAR_YAW if thing.long else _YAW)
            i, j, k, w = quaternion_from_euler(0.0, 0.0, yaw)
            data.joint(thing.item).qpos[:] = [x, y, thing.rest + 0.001, w, i, j, k]  # MuJoCo puts w first
        return instruction

    def succeeded(self, scene: Scene) -> bool:
        return all(self._in(scene, thing, self.goal(scene, i)) for i, thing in enumerate(self.things))

    def failed(self, scene: Scene) -> bool:
        if any(lost(scene, item, _AREA) for item in self.items):
            return True
        # All is put away, and not as told.
        put_away = all(any(self._in(scene, thing, place) for place in self.bins) for thing in self.things)
        return put_away and not self.succeeded(scene)

    def progress(self, scene: Scene) -> float:
        credits = [self._credit(scene, i) for i in range(len(self.things))]
        waiting = [thing.item for thing, credit in zip(self.things, credits, strict=True) if credit == 0.0]
        if not any(scene.holder(item) for item in self.items):  # else a hand that carries would seem to fall back
            credits.append(max((_approach(scene, item) for item in waiting), default=0.0))
        return min(1.0, float(np.sum(credits)) / len(self.things))

    def milestones(self, scene: Scene) -> int:
        return sum(self._milestones(scene, i) for i in range(len(self.things)))

    def tactic(self) -> Tactic:
        return Sorter(self.things, self.bins, self.goal)

    def goal(self, scene: Scene, number: int) -> Bin:
        """Return the bin into which the thing of that number belongs."""
        return self.bins[int(scene.data.userdata[number])]

    def _draw_sides(self, goals: list[int], rng: np.random.Generator) -> list[int]:
        """Draw where each thing starts, -1 left, 0 middle, 1 right; at least one across from its bin."""
        long = [i for i, thing in enumerate(self.things) if thing.long]
        across = {SIDES.index("left"): 1, SIDES.index("right"): -1}
        while True:
            sides = [0] * len(goals)
            for i, side in zip(long, rng.permutation([-1, 1]), strict=False):
                sides[i] = int(side)
            if any(across.get(goals[i]) == sides[i] for i in long):
                return sides

    def _draw_places(self, sides: list[int], rng: np.random.Generator) -> np.ndarray:
        """Draw places [n, 2], m, far enough from each other."""
        strips, (far_x, far_y) = _NEAR[self.variant], _FAR[self.variant]
        short = np.flatnonzero(np.array(sides) == 0)
        places = np.array([[side * rng.uniform(*far_x), rng.uniform(*far_y)] for side in sides])
        for _ in range(_TRIES):
            for n, i in enumerate(rng.permutation(short)):
                places[i] = rng.uniform(-_BOTH, _BOTH), rng.uniform(*strips[n % len(strips)])
            between = np.linalg.norm(places[short, None] - places[None, short], axis=-1)
            if (between[~np.eye(len(short), dtype=bool)] > _GAP).all():
                return places
        raise AssertionError("the things do not fit on the table")

    def _in(self, scene: Scene, thing: Thing, place: Bin) -> bool:
        return lies_in(scene, thing.item, place, below=_PILE)

    def _milestones(self, scene: Scene, number: int) -> int:
        thing = self.things[number]
        if self.goal(scene, number).covers(scene.position(thing.item)):
            return 2
        return int(scene.holder(thing.item) is not None and scene.position(thing.item)[2] > thing.rest + 0.03)

    def _credit(self, scene: Scene, number: int) -> float:
        thing, goal = self.things[number], self.goal(scene, number)
        if self._in(scene, thing, goal):
            return 1.0
        place = scene.position(thing.item)
        if goal.covers(place):
            return 0.92
        holder = scene.holder(thing.item)
        if holder is None:
            return 0.0
        # Towards the bin, and towards the hand that takes over.
        share = float(np.clip(1 - np.hypot(*(place[:2] - goal.centre)) / 0.6, 0, 1))
        its = scene.robot.arms[holder]
        if np.hypot(*(goal.centre - its.base[:2])) < its.reach:
            return 0.5 + 0.4 * share
        gap = min(float(np.linalg.norm(scene.hand(a).point - place)) for a in scene.robot.arms if a != holder)
        return 0.4 + 0.4 * share + 0.1 * float(np.clip(1 - gap / 0.4, 0, 1))


def _approach(scene: Scene, item: str) -> float:
    """Return up to 0.4 for a hand's way from home to the item."""
    place = scene.position(item)
    shares = [
        1 - np.linalg.norm(scene.hand(arm).point - place) / np.linalg.norm(home.point - place)
        for arm, home in scene.home_poses.items()
    ]
    return 0.4 * float(np.clip(max(shares), 0, 1))

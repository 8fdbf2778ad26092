"""Laundry folding: a towel is folded in half, and in half again across."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import mujoco
import numpy as np

from aloe_sim.robots.base import Robot
from aloe_sim.tasks.base import Scene, Tactic, Task
from aloe_sim.tasks.cloth import COUNT, Cloth
from aloe_sim.tasks.folding import TOGETHER, Corner, Folder, assign, corners, gap, mean, unfinished

TOLERANCE = {1: 0.03, 2: 0.04}  # m, corners that belong together, after so many folds
AREAS = {1: (0.42, 0.64), 2: (0.20, 0.38)}  # of the spread towel's, least and most, within the outline
FLAT = 0.85  # of the towel's area, all layers, that must lie level
CRUMPLED = 0.45  # of the towel's area: less than this level, at rest, is a heap that nobody here can fold
AT_REST = 0.02  # m/s
# The part of the table that both arms reach over a towel's width; its middle must stay here.
AREA = np.array([[-0.2, 0.2], [0.34, 0.72]])
BELOW = -0.03  # m: hangs over the edge of the table
PHRASES = {
    1: (
        "fold the towel in half",
        "fold the towel once, the near edge onto the far edge",
        "bring the near corners of the towel over to the far ones",
    ),
    2: (
        "fold the towel in half twice",
        "fold the towel into quarters",
        "fold the towel in half away from you, then in half again from left to right",
        "fold the towel twice so that all corners lie together",
    ),
}
_PIXELS = 256


@dataclass(frozen=True)
class Look:
    """What the towel of a variant is like."""

    size: float  # m a side
    cloth: list[int]  # 0..255 RGB
    far_half: list[int]
    border: list[int]
    corner: list[int]
    stripes: int  # across each half


LOOKS = {
    "train": Look(0.22, [52, 120, 190], [112, 175, 225], [245, 245, 240], [225, 60, 50], 0),
    "held_out": Look(0.20, [190, 120, 45], [235, 190, 110], [70, 45, 90], [40, 140, 70], 3),
}


@dataclass(frozen=True)
class Starts:
    """Ranges of the start states: low, high."""

    x: tuple[float, float]  # m, either way
    y: tuple[float, float]  # m
    yaw: tuple[float, float]  # rad, either way
    shrunk: float  # most, of its length
    wrinkles: float  # m, highest


STARTS = {
    ("easy", "train"): Starts((0.0, 0.01), (0.51, 0.53), (0.0, 0.03), 0.0, 0.0),
    ("easy", "held_out"): Starts((0.01, 0.02), (0.49, 0.51), (0.03, 0.06), 0.0, 0.0),
    ("full", "train"): Starts((0.0, 0.025), (0.49, 0.54), (0.0, 0.2), 0.02, 0.008),
    ("full", "held_out"): Starts((0.025, 0.035), (0.475, 0.49), (0.2, 0.28), 0.02, 0.01),
}


class LaundryFolding(Task):
    """Two hands take two corners each time; fingers that shut on the towel hold it up to a limit of force.

    `easy`: one fold, from a flat towel within 1 cm and 2 degrees of its usual place.
    `full`: two folds, from a wrinkled towel within 2.5 cm, turned by up to 11 degrees.
    `held_out`: another size and pattern, places and yaws beyond those of `train`.
    """

    levels = ("easy", "full")
    arms = 2
    items = ()
    physics_step = 0.004

    def __init__(self, level: str, variant: str) -> None:
        super().__init__(level, variant)
        self.look, self.starts = LOOKS[variant], STARTS[level, variant]
        self.folds = 1 if level == "easy" else 2
        self.time_limit = 8.0 * self.folds
        self.cloth = Cloth("towel", self.look.size)

    def build(self, spec: mujoco.MjSpec, robot: Robot) -> None:
        self.cloth.add(spec, _texture(self.look), robot)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> str:
        starts = self.starts
        sign = rng.choice([-1.0, 1.0], size=2)
        centre = np.array([sign[0] * rng.uniform(*starts.x), rng.uniform(*starts.y)])
        places = self.cloth.flat(centre, sign[1] * rng.uniform(*starts.yaw))
        shrunk = 1 - starts.shrunk * rng.random()
        places[..., :2] = centre + shrunk * (places[..., :2] - centre)
        waves, phase = rng.uniform(-3, 3, 2), rng.uniform(0, 2 * np.pi)
        i, j = np.mgrid[:COUNT, :COUNT] / (COUNT - 1)
        places[..., 2] += starts.wrinkles * (0.5 + 0.5 * np.sin(2 * np.pi * (waves[0] * i + waves[1] * j) + phase))
        self.cloth.put(model, data, places)
        return str(rng.choice(PHRASES[self.folds]))

    def interact(self, scene: Scene) -> None:
        self.cloth.interact(scene)

    # --- detectors ---------------------------------------------------------------------------------------------

    def folded(self, scene: Scene) -> bool:
        """Return whether corners and outline are as they should be, in the hand or not."""
        places = self.cloth.vertices(scene)
        gaps = [gap(places, axis) for axis in (0, 1)]
        together = min(gaps) < TOLERANCE[1] if self.folds == 1 else _spread(places) < TOLERANCE[2]
        low, high = AREAS[self.folds]
        whole = self.look.size**2
        return together and low < _outline(places) / whole < high and _level(places) / whole > FLAT

    def succeeded(self, scene: Scene) -> bool:
        return self._at_rest(scene) and not self.failed(scene) and self.folded(scene)

    def failed(self, scene: Scene) -> bool:
        places = self.cloth.vertices(scene)
        middle = places.reshape(-1, 3).mean(axis=0)
        inside = np.all((middle[:2] > AREA[:, 0]) & (middle[:2] < AREA[:, 1]))
        crumpled = _level(places) < CRUMPLED * self.look.size**2 and self._at_rest(scene)
        return bool(not inside or places[..., 2].min() < BELOW or crumpled)

    def progress(self, scene: Scene) -> float:
        """Shared equally by the folds; of each 0.25 for reaching, 0.1 for holding, 0.6 for the way."""
        places = self.cloth.vertices(scene)
        held = {arm: self.cloth.held(scene, arm) for arm in scene.robot.arms}
        axis = unfinished(places, self.folds)
        if axis is None:
            return 0.97
        doubled = self.folds == 2 and gap(places, 1 - axis) < TOGETHER
        duties = assign(scene, self.cloth, corners(axis, doubled))
        share = float(np.mean([self._brought(scene, arm, corner, held[arm]) for arm, corner in duties.items()]))
        return (int(doubled) + share) / self.folds

    def milestones(self, scene: Scene) -> int:
        """Two for each fold made, one for one whose corners are both in the hands."""
        places = self.cloth.vertices(scene)
        held = {arm: self.cloth.held(scene, arm) for arm in scene.robot.arms}
        axis = unfinished(places, self.folds)
        if axis is None:
            return 2 * self.folds
        doubled = self.folds == 2 and gap(places, 1 - axis) < TOGETHER
        duties = assign(scene, self.cloth, corners(axis, doubled))
        return 2 * int(doubled) + int(all(corner.held(held[arm]) for arm, corner in duties.items()))

    def tactic(self) -> Tactic:
        return Folder(self.cloth, self.folds)

    def _at_rest(self, scene: Scene) -> bool:
        """Return whether it lies still and no hand holds it."""
        free = not any(self.cloth.held(scene, arm).any() for arm in scene.robot.arms)
        return free and self.cloth.speed(scene) < AT_REST

    def _brought(self, scene: Scene, arm: str, corner: Corner, held: np.ndarray) -> float:
        places = self.cloth.vertices(scene)
        here = mean(places, corner.vertices)
        way = float(np.clip(1 - np.linalg.norm(here - mean(places, corner.goal)) / self.look.size, 0, 1))
        if corner.held(held) or way > 0.85:
            return 0.35 + 0.6 * way
        near = float(np.clip(1 - np.linalg.norm(self.cloth.tip(scene, arm) - here) / 0.35, 0, 1))
        return 0.25 * near + 0.6 * way


def _spread(places: np.ndarray) -> float:
    """Return the largest distance between two of the four corners, m."""
    four = places[:: COUNT - 1, :: COUNT - 1].reshape(4, 3)
    return float(np.linalg.norm(four[:, None] - four[None], axis=2).max())


def _outline(places: np.ndarray) -> float:
    """Return the area of the convex outline on the table, m^2."""
    return float(cv2.contourArea(cv2.convexHull(places[..., :2].reshape(-1, 1, 2).astype(np.float32))))


def _level(places: np.ndarray) -> float:
    """Return the area of all layers as seen from above, m^2: less than the towel's where it is crumpled."""
    x, y = places[1:, 1:, :2] - places[:-1, :-1, :2], places[:-1, 1:, :2] - places[1:, :-1, :2]
    return float(np.abs(x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]).sum() / 2)


def _texture(look: Look) -> np.ndarray:
    """Return the towel's picture, uint8 [_PIXELS, _PIXELS, 3] RGB: the far half above, a border, marked corners."""
    y, x = np.mgrid[:_PIXELS, :_PIXELS] / _PIXELS
    picture = np.where((y < 0.5)[..., None], look.far_half, look.cloth)
    if look.stripes:
        dark = (np.floor(x * 4 * look.stripes) % 2 == 1)[..., None]
        picture = np.where(dark, 0.8 * picture, picture)
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    picture = np.where((edge < 0.045)[..., None], look.border, picture)
    apart = np.maximum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    return np.where((apart < 0.11)[..., None], look.corner, picture).astype(np.uint8)

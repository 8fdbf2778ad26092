"""Sorting: put blocks from the table into a bin, each with the arm on its side."""

from __future__ import annotations

import mujoco
import numpy as np

from aloe_core.rotations import quaternion_from_euler
from aloe_sim.robots.base import Robot
from aloe_sim.scene import WORLD_BIT
from aloe_sim.tactics import carry, grip_for, pick
from aloe_sim.tasks.base import Intention, Scene, Tactic, Task, free_box

BIN = np.array([0.0, 0.665])  # m, centre
BIN_INNER = np.array([0.095, 0.065])  # m, half sizes
BIN_WALL = 0.004  # m, half thickness
BIN_HEIGHT = 0.04
BLOCK = 0.019  # m, half edge
X_RANGE = (0.05, 0.20)  # m from the middle, either side
Y_RANGE = (0.35, 0.53)
YAW = 0.3  # rad, either way
CARRY_HEIGHT = 0.095  # m
# The part of the table an arm can still pick from, and the camera can still see.
AREA = np.array([[-0.27, 0.27], [0.29, 0.77]])
COLOURS = {"red": [0.85, 0.05, 0.05, 1], "green": [0.05, 0.6, 0.1, 1]}
WALL_COLOUR = [0.3, 0.35, 0.75, 1]
FLOOR_COLOUR = [0.25, 0.3, 0.5, 1]
LEVELS = {"easy": ("red",), "two": ("red", "green")}
PHRASES = (
    "put the {0} into the bin",
    "place the {0} in the bin",
    "pick up the {0} and drop {1} into the bin",
)


class Sorting(Task):
    """`easy`: one red block, on either side. `two`: a red and a green block, one on each side."""

    levels = tuple(LEVELS)

    def __init__(self, level: str, variant: str) -> None:
        super().__init__(level, variant)
        self.colours = LEVELS[level]
        self.items = tuple(f"{c}_block" for c in self.colours)
        self.time_limit = 8.0 if len(self.items) == 1 else 14.0

    def build(self, spec: mujoco.MjSpec, robot: Robot) -> None:
        _add_bin(spec)
        for item, colour in zip(self.items, self.colours, strict=True):
            free_box(spec, item, [BLOCK] * 3, COLOURS[colour], mass=0.04)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> str:
        first = rng.choice([-1.0, 1.0])
        for i, item in enumerate(self.items):
            side = first * (-1.0) ** i
            yaw = rng.uniform(-YAW, YAW)
            place = [side * rng.uniform(*X_RANGE), rng.uniform(*Y_RANGE), BLOCK + 0.001]
            x, y, z, w = quaternion_from_euler(0.0, 0.0, yaw)
            data.joint(item).qpos[:] = [*place, w, x, y, z]  # MuJoCo puts w first
        what = f"{self.colours[0]} block" if len(self.items) == 1 else "blocks"
        return str(rng.choice(PHRASES)).format(what, "it" if len(self.items) == 1 else "them")

    def succeeded(self, scene: Scene) -> bool:
        return all(_delivered(scene, item) for item in self.items)

    def failed(self, scene: Scene) -> bool:
        return any(_lost(scene, item) for item in self.items)

    def progress(self, scene: Scene) -> float:
        return float(np.mean([_progress(scene, item) for item in self.items]))

    def milestones(self, scene: Scene) -> int:
        return sum(_milestones(scene, item) for item in self.items)

    def tactic(self) -> Tactic:
        return _OneByOne(self)


class _OneByOne(Tactic):
    """Pick a block up with the arm on its side, carry it over the bin, let go; the other arm stays at home."""

    def __init__(self, task: Sorting) -> None:
        self._task = task

    def intend(self, scene: Scene, aim: np.ndarray) -> dict[str, Intention]:
        items = self._task.items
        left = [item for item in items if not _over_bin(scene, item) or scene.holder(item)]
        if not left:
            return {}
        # A block in the hand first, then the left side: the order must not depend on the past.
        _, arm, item = min((scene.holder(item) is None, _arm_for(scene, item), item) for item in left)
        grip = grip_for(scene, BLOCK - 0.002)
        if scene.touching(arm, item) == 2:
            own_half = np.array([-0.045 if arm == "left" else 0.045, 0.0])
            return {arm: carry(scene, arm, np.array([*(BIN + own_half), CARRY_HEIGHT]), grip)}
        place = scene.position(item)
        return {arm: pick(scene, arm, place, aim, grip, _opening(place))}


def _arm_for(scene: Scene, item: str) -> str:
    return scene.holder(item) or ("left" if scene.position(item)[0] < 0 else "right")


def _add_bin(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name="bin", pos=[*BIN, 0])
    box = mujoco.mjtGeom.mjGEOM_BOX
    (x, y), wall, z = BIN_INNER, BIN_WALL, BIN_HEIGHT / 2
    # The floor is paint: blocks stand on the table, which is thick enough not to be fallen through.
    body.add_geom(type=box, size=[x, y, 0.0005], pos=[0, 0, 0.0005], rgba=FLOOR_COLOUR, contype=0, conaffinity=0)
    for sign in (-1, 1):
        for size, pos in (
            ([wall, y + 2 * wall, z], [sign * (x + wall), 0, z]),
            ([x, wall, z], [0, sign * (y + wall), z]),
        ):
            body.add_geom(type=box, size=size, pos=pos, rgba=WALL_COLOUR, contype=WORLD_BIT, conaffinity=7)


def _over_bin(scene: Scene, item: str) -> bool:
    return bool(np.all(np.abs(scene.position(item)[:2] - BIN) < BIN_INNER - 0.005))


def _opening(position: np.ndarray) -> float | None:
    """Return the direction along the wall a block leans on, where the fingers would else come down on the bin."""
    beyond = np.abs(position[:2] - BIN) - BIN_INNER - 2 * BIN_WALL
    if 0 < beyond[0] < 0.045 and beyond[1] < 0.022:
        return np.pi / 2
    if beyond[1] > 0 and position[1] > BIN[1] and beyond[0] < 0.03:
        return 0.0
    return None


def _delivered(scene: Scene, item: str) -> bool:
    inside = _over_bin(scene, item) and scene.position(item)[2] < BIN_HEIGHT + BLOCK
    free = scene.touching("left", item) == 0 and scene.touching("right", item) == 0
    return inside and free and scene.supported(item) and scene.speed(item) < 0.02


def _lost(scene: Scene, item: str) -> bool:
    position = scene.position(item)
    inside = np.all((position[:2] > AREA[:, 0]) & (position[:2] < AREA[:, 1]))
    return bool(position[2] < -0.01 or (not inside and scene.holder(item) is None))


def _milestones(scene: Scene, item: str) -> int:
    if _over_bin(scene, item):
        return 2
    return int(scene.holder(item) is not None and scene.position(item)[2] > 0.05)


def _progress(scene: Scene, item: str) -> float:
    if _delivered(scene, item):
        return 1.0
    position = scene.position(item)
    if _over_bin(scene, item):
        return 0.9
    holder = scene.holder(item)
    if holder:
        return 0.5 + 0.35 * float(np.clip(1 - np.hypot(*(position[:2] - BIN)) / 0.4, 0, 1))
    distance = min(float(np.linalg.norm(scene.hand(arm).point - position)) for arm in ("left", "right"))
    return 0.4 * float(np.clip(1 - distance / 0.35, 0, 1))

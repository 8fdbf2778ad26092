"""Blocks into one bin, each with the arm on its side; thrown in does not count."""

from __future__ import annotations

import mujoco
import numpy as np

from aloe_core.rotations import quaternion_from_euler
from aloe_sim.robots.base import Robot
from aloe_sim.tactics import carry, grip_for, natural_opening, pick
from aloe_sim.tasks.base import Intention, Scene, Tactic, Task, free_box
from aloe_sim.tasks.sorting.bins import Bin, lies_in, lost

BIN = np.array([0.0, 0.665])  # m, centre
BIN_INNER = np.array([0.095, 0.065])  # m, half sizes
BIN_WALL = 0.004  # m, half thickness
BIN_HEIGHT = 0.04
BLOCK = 0.019  # m, half edge
YAW = 0.3  # rad, either way
CARRY_HEIGHT = 0.095  # m
LIFTED = 0.01  # m off the table
NEAR = 0.05  # m from the bin, at which a hand may let go
HELD = 6  # ticks in a hand that tell carrying from being knocked about
# The part of the table an arm can still pick from, and the camera can still see.
AREA = np.array([[-0.27, 0.27], [0.29, 0.77]])
PHRASES = (
    "put the {0} into the bin",
    "place the {0} in the bin",
    "pick up the {0} and drop {1} into the bin",
)
_BIN = Bin("bin", BIN, BIN_INNER, BIN_WALL, BIN_HEIGHT)
_BLOCKS = {"easy": 1, "two": 2}
_COLOURS = {
    "train": {"red": [0.85, 0.05, 0.05, 1], "green": [0.05, 0.6, 0.1, 1]},
    "held_out": {"blue": [0.05, 0.2, 0.85, 1], "yellow": [0.95, 0.8, 0.05, 1]},
}
_HALF = {"train": BLOCK, "held_out": 0.016}  # m, half edge
_X_RANGE = (0.05, 0.20)  # m from the middle, either side
_Y_RANGE = {"train": (0.35, 0.53), "held_out": (0.315, 0.345)}


class OneBin(Task):
    """`easy`: one block, on either side. `two`: two blocks, one on each side."""

    levels = tuple(_BLOCKS)

    def __init__(self, level: str, variant: str) -> None:
        super().__init__(level, variant)
        self.colours = dict(list(_COLOURS[variant].items())[: _BLOCKS[level]])
        self.half = _HALF[variant]
        self.items = tuple(f"{c}_block" for c in self.colours)
        self.time_limit = 8.0 if len(self.items) == 1 else 14.0

    def build(self, spec: mujoco.MjSpec, robot: Robot) -> None:
        spec.nuserdata = len(self.items)  # ticks for which a hand held each at the bin
        _BIN.add(spec)
        for item, rgba in zip(self.items, self.colours.values(), strict=True):
            free_box(spec, item, [self.half] * 3, rgba, mass=0.04)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> str:
        first = rng.choice([-1.0, 1.0])
        for i, item in enumerate(self.items):
            side = first * (-1.0) ** i
            yaw = rng.uniform(-YAW, YAW)
            place = [side * rng.uniform(*_X_RANGE), rng.uniform(*_Y_RANGE[self.variant]), self.half + 0.001]
            x, y, z, w = quaternion_from_euler(0.0, 0.0, yaw)
            data.joint(item).qpos[:] = [*place, w, x, y, z]  # MuJoCo puts w first
        what = f"{next(iter(self.colours))} block" if len(self.items) == 1 else "blocks"
        return str(rng.choice(PHRASES)).format(what, "it" if len(self.items) == 1 else "them")

    def interact(self, scene: Scene) -> None:
        for number, item in enumerate(self.items):
            place = scene.position(item)
            near = bool(np.all(np.abs(place[:2] - BIN) < BIN_INNER + NEAR))
            held = near and place[2] > self.half + LIFTED and scene.holder(item) is not None
            ticks = scene.data.userdata[number]
            if ticks < HELD:
                scene.data.userdata[number] = ticks + 1 if held else 0

    def succeeded(self, scene: Scene) -> bool:
        return all(_delivered(scene, item) and self._brought(scene, item) for item in self.items)

    def failed(self, scene: Scene) -> bool:
        return any(
            lost(scene, item, AREA) or (_delivered(scene, item) and not self._brought(scene, item))
            for item in self.items
        )

    def _brought(self, scene: Scene, item: str) -> bool:
        """Whether a hand ever held it at the bin: what was knocked or thrown in was not put there."""
        return bool(scene.data.userdata[self.items.index(item)] >= HELD)

    def progress(self, scene: Scene) -> float:
        return float(np.mean([_progress(scene, item) for item in self.items]))

    def milestones(self, scene: Scene) -> int:
        return sum(_milestones(scene, item) for item in self.items)

    def tactic(self) -> Tactic:
        return _OneByOne(self)


class _OneByOne(Tactic):
    """Pick a block up with the arm on its side, carry it over the bin, let go; another arm stays at home."""

    def __init__(self, task: OneBin) -> None:
        self._task = task

    def intend(self, scene: Scene, aim: np.ndarray) -> dict[str, Intention]:
        items = self._task.items
        waiting = [item for item in items if not _BIN.covers(scene.position(item)) or scene.holder(item)]
        if not waiting:
            return {}
        # A block in the hand first, then the left side: the order must not depend on the past.
        _, arm, item = min((scene.holder(item) is None, _arm_for(scene, item), item) for item in waiting)
        grip = grip_for(scene, self._task.half - 0.002)
        if scene.touching(arm, item) == 2:
            own_half = np.array([0.045 * np.sign(scene.robot.arms[arm].base[0]), 0.0])
            return {arm: carry(scene, arm, np.array([*(BIN + own_half), CARRY_HEIGHT]), grip)}
        place = scene.position(item)
        return {arm: pick(scene, arm, place, aim, grip, _opening(place, natural_opening(scene, arm, place)))}


def _arm_for(scene: Scene, item: str) -> str:
    """The arm that holds the item, else the one on its side."""
    x = scene.position(item)[0]
    return scene.holder(item) or min(scene.robot.arms, key=lambda arm: abs(scene.robot.arms[arm].base[0] - x))


def _opening(position: np.ndarray, natural: float) -> float | None:
    """Return the direction along the wall a block leans on, where the fingers would else come down on the bin."""
    beyond = np.abs(position[:2] - BIN) - BIN_INNER - 2 * BIN_WALL
    if 0 < beyond[0] < 0.045 and beyond[1] < 0.022:
        return np.pi / 2
    behind = position[1] > BIN[1]
    before = beyond[1] < 0.045 and abs(np.sin(natural)) > 0.7  # an arm that opens towards the bin there
    return 0.0 if beyond[1] > 0 and beyond[0] < 0.03 and (behind or before) else None


def _delivered(scene: Scene, item: str) -> bool:
    return lies_in(scene, item, _BIN, below=BIN_HEIGHT + BLOCK)


def _milestones(scene: Scene, item: str) -> int:
    if _BIN.covers(scene.position(item)):
        return 2
    return int(scene.holder(item) is not None and scene.position(item)[2] > 0.05)


def _progress(scene: Scene, item: str) -> float:
    if _delivered(scene, item):
        return 1.0
    position = scene.position(item)
    if _BIN.covers(position):
        return 0.9
    holder = scene.holder(item)
    if holder:
        return 0.5 + 0.35 * float(np.clip(1 - np.hypot(*(position[:2] - BIN)) / 0.4, 0, 1))
    distance = min(float(np.linalg.norm(scene.hand(arm).point - position)) for arm in scene.robot.arms)
    return 0.4 * float(np.clip(1 - distance / 0.35, 0, 1))

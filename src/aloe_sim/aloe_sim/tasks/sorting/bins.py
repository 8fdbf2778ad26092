"""Bins: where they stand, what they look like, and what lies in them."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from aloe_sim.scene import ALL_BITS, WORLD_BIT
from aloe_sim.tasks.base import Scene

WALL_COLOUR = [0.3, 0.35, 0.75, 1]
FLOOR_COLOUR = [0.25, 0.3, 0.5, 1]


@dataclass(frozen=True)
class Bin:
    """An open box without a floor of its own, walls along x and y; lengths in m."""

    name: str  # its body's
    centre: np.ndarray  # [2]
    inner: np.ndarray  # [2], half sizes
    wall: float  # half thickness
    height: float

    def covers(self, point: np.ndarray) -> bool:
        """Return whether `point` [2 or 3] is over its inside."""
        return bool(np.all(np.abs(point[:2] - self.centre) < self.inner - 0.005))

    def add(self, spec: mujoco.MjSpec) -> None:
        """Add it to the scene."""
        body = spec.worldbody.add_body(name=self.name, pos=[*self.centre, 0])
        box = mujoco.mjtGeom.mjGEOM_BOX
        (x, y), wall, z = self.inner, self.wall, self.height / 2
        # The floor is paint: blocks stand on the table, which is thick enough not to be fallen through.
        body.add_geom(type=box, size=[x, y, 0.0005], pos=[0, 0, 0.0005], rgba=FLOOR_COLOUR, contype=0, conaffinity=0)
        for sign in (-1, 1):
            for size, pos in (
                ([wall, y + 2 * wall, z], [sign * (x + wall), 0, z]),
                ([x, wall, z], [0, sign * (y + wall), z]),
            ):
                body.add_geom(type=box, size=size, pos=pos, rgba=WALL_COLOUR, contype=WORLD_BIT, conaffinity=ALL_BITS)


def lies_in(scene: Scene, item: str, where: Bin, below: float) -> bool:
    """Return whether `item` lies in the bin: let go, at rest, its centre lower than `below`, m."""
    place = scene.position(item)
    inside = where.covers(place) and place[2] < below
    free = all(scene.touching(arm, item) == 0 for arm in scene.robot.arms)
    return bool(inside and free and scene.supported(item) and scene.speed(item) < 0.02)


def lost(scene: Scene, item: str, area: np.ndarray) -> bool:
    """Return whether `item` is off the part of the table, `area` [2, 2] m, in which some arm can pick it up."""
    place = scene.position(item)
    inside = np.all((place[:2] > area[:, 0]) & (place[:2] < area[:, 1]))
    inside = inside and any(np.hypot(*(place - arm.base)[:2]) < arm.reach for arm in scene.robot.arms.values())
    return bool(place[2] < -0.01 or (not inside and scene.holder(item) is None))

"""The things that are sorted among several bins: their shapes, how to add them to a scene and how to hold them."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from aloe_sim.tasks.base import Scene, free_box

RGBA = {
    "red": [0.85, 0.05, 0.05, 1],
    "blue": [0.05, 0.2, 0.85, 1],
    "green": [0.05, 0.6, 0.1, 1],
    "yellow": [0.95, 0.8, 0.05, 1],
    "orange": [0.95, 0.4, 0.0, 1],
    "purple": [0.5, 0.1, 0.65, 1],
    "cyan": [0.0, 0.75, 0.8, 1],
    "pink": [0.95, 0.45, 0.65, 1],
}
BOXES = ("cube", "tower", "bar")  # the others stand on a round or six-sided base
_SIZE = {  # m: half sizes of boxes (a bar lies along y), radius (of a prism: to its faces) and half height of others
    "cube": (0.019, 0.019, 0.019),
    "tower": (0.016, 0.016, 0.026),
    "cylinder": (0.019, 0.022),
    "prism": (0.018, 0.022),
    "bar": (0.013, 0.072, 0.014),
}
_DENSITY = 700.0  # kg/m^3, of wood
_STIFF = {"solref": [0.006, 1.0]}  # fingers that close on it sink in less


@dataclass(frozen=True)
class Thing:
    """One thing, known by its colour and shape."""

    colour: str
    shape: str
    scale: float = 1.0  # across; a bar keeps its length

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def item(self) -> str:
        """Name of its body."""
        return f"{self.colour}_{self.shape}"

    @property
    def size(self) -> np.ndarray:
        """Half sizes of a box [3], or radius and half height [2], m."""
        size = np.array(_SIZE[self.shape]) * self.scale
        if self.long:
            size[1] = _SIZE[self.shape][1]
        return size

    @property
    def half_width(self) -> float:
        """Half of what lies between the fingers, m."""
        return float(self.size[0])

    @property
    def rest(self) -> float:
        """Height of the centre over the table as it starts, m."""
        return float(self.size[-1])

    @property
    def long(self) -> bool:
        """Whether two hands can hold it side by side."""
        return self.shape == "bar"

    def add(self, spec: mujoco.MjSpec) -> None:
        """Add it to the scene as a free body."""
        size, rgba = self.size, RGBA[self.colour]
        if self.shape in BOXES:
            free_box(spec, self.item, size, rgba, mass=8 * _DENSITY * float(np.prod(size)), **_STIFF)
            return
        mass = 2 * np.pi * _DENSITY * float(size[0] ** 2 * size[1])
        if self.shape == "cylinder":
            free_box(spec, self.item, [*size, 0], rgba, mass, type=mujoco.mjtGeom.mjGEOM_CYLINDER, **_STIFF)
            return
        # A hexagon is three rectangles: as a mesh it would rattle on its corners.
        half = [size[0], size[0] * np.tan(np.pi / 6), size[1]]
        body = free_box(spec, self.item, half, rgba, mass / 3, **_STIFF)
        for angle in (np.pi / 3, -np.pi / 3):
            turned = body.geoms[0]
            body.add_geom(
                type=turned.type,
                size=turned.size,
                quat=[np.cos(angle / 2), 0, 0, np.sin(angle / 2)],
                mass=turned.mass,
                rgba=turned.rgba,
                friction=turned.friction,
                condim=turned.condim,
                contype=turned.contype,
                conaffinity=turned.conaffinity,
                solref=turned.solref,
            )

    def points(self, scene: Scene) -> np.ndarray:
        """Return points [n, 3], m, about which it lies: its centre, and those along its length."""
        centre = scene.position(self.item)
        if not self.long:
            return centre[None]
        return centre + np.linspace(-1, 1, 5)[:, None] * self.axis(scene) * self.size[1]

    def axis(self, scene: Scene) -> np.ndarray:
        """Return the direction [3] of its length (of its height if it stands), away from the operator if it lies."""
        rotation = scene.rotation(self.item)
        axis = rotation[:, 1 if self.long else 2]
        return axis if axis[1] >= 0 else -axis

    def openings(self, scene: Scene) -> list[float]:
        """Return the directions, rad, in which fingers that come from above close on opposite faces; empty: any."""
        rotation = scene.rotation(self.item)
        if self.shape in BOXES:
            across = [rotation[:, i] for i in range(3) if not (self.long and i == 1)]
        elif abs(rotation[2, 2]) < 0.7:  # lies on its side
            across = [np.cross(rotation[:, 2], [0.0, 0.0, 1.0])]
        elif self.shape == "cylinder":
            across = []
        else:
            across = [rotation @ [np.cos(a), np.sin(a), 0.0] for a in np.arange(3) * np.pi / 3]
        return [float(np.arctan2(a[1], a[0])) for a in across if abs(a[2]) < 0.6]

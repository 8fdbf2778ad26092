"""Where there is room: for a thing in a bin or on the table, and for the fingers around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aloe_sim.tactics import natural_opening
from aloe_sim.tasks.base import Scene
from aloe_sim.tasks.sorting.bins import Bin
from aloe_sim.tasks.sorting.things import Thing

FINGER = 0.028  # m, thickness of a finger, about
_ENOUGH = 0.09  # m between centres, more is no better
_MARGIN = 0.03  # m inside an arm's reach
_ANY = np.arange(-2, 4) * np.pi / 6  # rad
_GRID = {"bar": ((-0.066, -0.033, 0.0, 0.033, 0.066), (0.0,))}
_SHORT_GRID = ((-0.07, -0.035, 0.0, 0.035, 0.07), (-0.045, 0.0, 0.045))
_MIDDLE = [np.array([x, y]) for x in (-0.05, 0.0, 0.05) for y in (0.37, 0.41, 0.45, 0.49, 0.53)]  # m


def reaches(scene: Scene, arm: str, point: np.ndarray, margin: float = 0.0) -> bool:
    """Return whether the arm can take something from `point` [2 or 3] on the table."""
    its = scene.robot.arms[arm]
    return bool(np.hypot(*(point[:2] - its.base[:2])) < its.reach - margin)


def others(scene: Scene, thing: Thing, things: Sequence[Thing]) -> np.ndarray:
    """Return the points [n, 2] about which all other things lie, m."""
    points = [other.points(scene)[:, :2] for other in things if other is not thing]
    return np.concatenate(points) if points else np.zeros((0, 2))


def slot(scene: Scene, arm: str, thing: Thing, where: Bin, around: np.ndarray) -> np.ndarray:
    """Return the roomiest place [2] in a bin that the arm reaches, near its edge; `around` [n, 2]: all other things."""
    grid = _GRID.get(thing.shape, _SHORT_GRID)
    places = [where.centre + np.array([x, y]) for x in grid[0] for y in grid[1]]
    places = [p for p in places if reaches(scene, arm, p, _MARGIN)] or [where.centre]
    base = scene.robot.arms[arm].base[:2]

    def worth(place: np.ndarray) -> float:
        edge = float(np.hypot(*(place - where.centre)))
        return _room(thing, place, around) + 0.1 * edge - 0.01 * float(np.hypot(*(place - base)))

    return max(places, key=worth)


def middle(scene: Scene, thing: Thing, around: np.ndarray) -> np.ndarray:
    """Return the roomiest place [2] on the table that all arms reach."""
    return max(_MIDDLE, key=lambda place: _room(thing, place, around))


def opening(
    scene: Scene, arm: str, point: np.ndarray, options: Sequence[float], half_width: float, around: np.ndarray
) -> float:
    """Return which of the directions `options` (rad; empty: any) leaves the fingers room, the wrist turned little."""
    natural = natural_opening(scene, arm, point)

    def worth(angle: float) -> float:
        turned = abs((angle - natural + np.pi / 2) % np.pi - np.pi / 2)
        offset = (half_width + FINGER) * np.array([np.cos(angle), np.sin(angle)])
        fingers = np.stack([point[:2] + offset, point[:2] - offset])
        return min(_nearest(fingers, around), 0.045) - 0.01 * turned

    return max(options or [natural + a for a in _ANY], key=worth)


def _room(thing: Thing, place: np.ndarray, around: np.ndarray) -> float:
    along = np.linspace(-1, 1, 5) * thing.size[1] if thing.long else np.zeros(1)
    return min(_nearest(place + np.stack([0 * along, along], axis=1), around), _ENOUGH)


def _nearest(points: np.ndarray, around: np.ndarray) -> float:
    if not len(around):
        return np.inf
    return float(np.linalg.norm(points[:, None] - around[None], axis=-1).min())

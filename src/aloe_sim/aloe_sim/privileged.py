"""What a perfect tracker would say of the scene: poses of objects, in place of images.

For benchmarks that ask how methods learn rather than how well a small encoder sees; no robot has this.
"""

from __future__ import annotations

import numpy as np

from aloe_sim.station import Station

_CLOTH_STEP = 2  # of a cloth's vertices, every second one each way


def object_state(station: Station) -> np.ndarray:
    """Return poses in the world frame, float32 [P], m: the same length and order for every episode of a task.

    For each item and fixture its position, two columns of its rotation, and where it lies as seen from each hand; of a
    cloth some vertices, and its corners as seen from each hand. Hands are left out: they follow from the joint
    positions.
    """
    hands = [station.hand(arm) for arm in sorted(station.robot.arms)]
    parts: list[np.ndarray] = []
    for item in station.task.items + station.task.fixtures:
        position = station.position(item)
        parts += [position, station.rotation(item)[:, :2].ravel()]
        parts += [hand.rotation.T @ (position - hand.point) for hand in hands]
    if station.model.nflex:
        side = round(np.sqrt(station.model.nflexvert))
        vertices = station.data.flexvert_xpos.reshape(side, side, 3)
        parts.append(vertices[::_CLOTH_STEP, ::_CLOTH_STEP].ravel())
        corners = vertices[:: side - 1, :: side - 1].reshape(-1, 3)
        parts += [((corners - hand.point) @ hand.rotation).ravel() for hand in hands]
    return np.concatenate(parts).astype(np.float32)

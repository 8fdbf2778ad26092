"""How smoothly chunks of a policy meet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Source


def border_steps(episodes: Sequence[EpisodeData], contract: RobotContract) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest requested move of each control step, rad of revolute joints: at chunk borders, and inside.

    Only steps that the policy asked for after one it had asked for count.
    """
    angular = np.array([joint.unit == "rad" for joint in contract.joints])
    border, inside = [np.zeros(0)], [np.zeros(0)]
    for episode in episodes:
        moved = np.abs(np.diff(episode.requested[:, angular], axis=0)).max(axis=1)
        policy = episode.source == Source.POLICY
        both = policy[1:] & policy[:-1]
        changed = np.diff(episode.chunk) != 0
        border.append(moved[both & changed])
        inside.append(moved[both & ~changed])
    return np.concatenate(border), np.concatenate(inside)


def border_figures(episodes: Sequence[EpisodeData], contract: RobotContract) -> dict[str, float | None]:
    """Return medians, 99th percentiles and maxima of both, rad; None where there are none."""
    figures: dict[str, float | None] = {}
    for name, moved in zip(("border", "inside"), border_steps(episodes, contract), strict=True):
        for key, p in (("p50", 50), ("p99", 99), ("max", 100)):
            figures[f"{name}_step_{key}_rad"] = round(float(np.percentile(moved, p)), 5) if len(moved) else None
    return figures

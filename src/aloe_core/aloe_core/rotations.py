"""Rotations, the one place: tf_transformations where a ROS install has it, else transforms3d, which it wraps."""

from __future__ import annotations

import numpy as np

try:
    import tf_transformations
except ImportError:
    tf_transformations = None
    from transforms3d.euler import euler2quat


def quaternion_from_euler(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Return the unit quaternion [4] as x, y, z, w (ROS order) of fixed-axis x-y-z angles in rad (REP-103)."""
    if tf_transformations is not None:
        return np.asarray(tf_transformations.quaternion_from_euler(roll, pitch, yaw), dtype=np.float64)
    w, x, y, z = euler2quat(roll, pitch, yaw, axes="sxyz")
    return np.array([x, y, z, w])

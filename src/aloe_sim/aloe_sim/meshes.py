"""Coarser copies of the arm meshes: at camera resolution nobody sees the difference, and frames cost a third."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_stl(path: Path) -> np.ndarray:
    """Return the triangles of a binary STL, float32 [F, 3, 3], in its own unit."""
    raw = path.read_bytes()
    count = int(np.frombuffer(raw, "<u4", 1, 80)[0])
    record = np.dtype([("normal", "<f4", 3), ("vertices", "<f4", (3, 3)), ("attribute", "<u2")])
    return np.frombuffer(raw, record, count, 84)["vertices"]


def decimate(triangles: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Merge all vertices within a grid cell of size `cell`; return vertices [V, 3] and faces [F, 3]."""
    points = triangles.reshape(-1, 3).astype(np.float64)
    _, owner = np.unique(np.floor(points / cell).astype(np.int64), axis=0, return_inverse=True)
    owner = owner.reshape(-1)
    counts = np.bincount(owner)
    vertices = np.stack([np.bincount(owner, points[:, i]) / counts for i in range(3)], axis=1)
    faces = owner.reshape(-1, 3)
    solid = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    _, first = np.unique(np.sort(faces[solid], axis=1), axis=0, return_index=True)
    return vertices, faces[solid][np.sort(first)]

"""Commanded motion of a tick, how it brakes, and the reasons for which it is not the one that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np


class Clamp(IntFlag):
    """Why an executed action differs from the requested one; values of ExecutedStep.CLAMP_*."""

    NONE = 0
    POSITION = 1
    VELOCITY = 2
    ACCELERATION = 4
    WORKSPACE = 8
    NONFINITE = 16
    STALE = 32
    DISTANCE = 64
    SLOWED = 128
    BLENDED = 256


@dataclass(frozen=True)
class Motion:
    """Commanded motion after a tick, float64 [J] in contract order."""

    position: np.ndarray  # rad (m for grippers)
    velocity: np.ndarray  # per s, of the last tick
    request: np.ndarray  # what was asked for, within position limits


def braked(motion: Motion, gain: np.ndarray, dt: float) -> np.ndarray:
    """Return where the joints [J] come to rest if from now on every tick (dt, s) takes `gain` [J] off their speed."""
    speed = np.abs(motion.velocity)
    ticks = np.floor(speed / gain)
    return np.asarray(motion.position + np.sign(motion.velocity) * dt * ticks * (speed - gain * (ticks + 1) / 2))


def mixed(motion: Motion, other: Motion, joints: np.ndarray) -> Motion:
    """Return `motion` with that of `other` in the joints selected by a mask [J]."""
    return Motion(
        np.where(joints, other.position, motion.position),
        np.where(joints, other.velocity, motion.velocity),
        np.where(joints, other.request, motion.request),
    )

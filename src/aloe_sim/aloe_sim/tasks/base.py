"""What a task gives the station, the expert and the scripted human."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import mujoco
import numpy as np


class Verdict(Enum):
    """What a person would say of the scene."""

    OPEN = 0
    SUCCESS = 1
    FAILURE = 2


@dataclass(frozen=True)
class Goal:
    """One thing left to do: put `item` (a body) at `target` with `arm`."""

    item: str
    arm: str
    target: np.ndarray  # [2], m, world x and y above which to let go
    height: float  # m, of the pinch point while carrying and letting go
    opening: float | None = None  # rad, world direction in which the fingers open to pick; None: away from the base


class Task(ABC):
    """Objects, start states, instruction and detectors of one task."""

    levels: ClassVar[tuple[str, ...]]
    variants: ClassVar[tuple[str, ...]]
    time_limit: float  # s
    items: tuple[str, ...]  # bodies that move

    def __init__(self, level: str, variant: str) -> None:
        self.level = level
        self.variant = variant

    @abstractmethod
    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the task's bodies."""

    @abstractmethod
    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> str:
        """Place the objects at random and return the instruction."""

    @abstractmethod
    def judge(self, scene: Scene) -> tuple[Verdict, float]:
        """Return the verdict and the progress (0..1) of the scene as it stands; a pure function of it."""

    @abstractmethod
    def milestones(self, scene: Scene) -> int:
        """Return how many things are achieved, as a person would count them: lifted, delivered."""

    @abstractmethod
    def goals(self, scene: Scene) -> list[Goal]:
        """Return what is left to do, the next thing first; empty when only the retreat is left."""


class Scene(ABC):
    """What tasks and the expert may ask about the simulated world."""

    @abstractmethod
    def position(self, item: str) -> np.ndarray:
        """Return the body's position, [3], m."""

    @abstractmethod
    def speed(self, item: str) -> float:
        """Return the body's speed, m/s, with rotation counted at 2 cm from its centre."""

    @abstractmethod
    def pinch(self, arm: str) -> np.ndarray:
        """Return the point between the arm's pads, [3], m."""

    @abstractmethod
    def supported(self, item: str) -> bool:
        """Return whether the body touches anything but fingers."""

    @abstractmethod
    def touching(self, arm: str, item: str) -> int:
        """Return how many of the arm's two fingers touch the body."""

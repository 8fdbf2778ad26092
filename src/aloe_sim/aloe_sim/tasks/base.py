"""What a task gives the station, the expert and the scripted human, and what they may ask of the scene."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from aloe_sim.kinematics import Pose
from aloe_sim.robots.base import Robot
from aloe_sim.scene import ALL_BITS, WORLD_BIT


@dataclass(frozen=True)
class Intention:
    """What one hand should do next."""

    pose: Pose  # of the pinch point, world frame
    grip: float  # m, finger command
    pace: float = 1.0  # of the natural speed
    at_work: bool = True  # False on the way home: such a hand does not wander


class Tactic(ABC):
    """One person's way of doing a task, engaged at any moment; what it intends follows from the scene it is shown."""

    @abstractmethod
    def intend(self, scene: Scene, aim: np.ndarray) -> dict[str, Intention]:
        """Return what each arm should do now; arms left out go home. `aim` [3], m: error of where things seem to be."""


class Task(ABC):
    """Objects, start states, instruction, detectors and tactic of one task.

    Detectors and progress are pure functions of the scene, so that a mirror of it agrees.
    """

    levels: ClassVar[tuple[str, ...]]
    variants: ClassVar[tuple[str, ...]] = ("train", "held_out")
    arms: int = 1  # needed, at least
    time_limit: float  # s
    physics_step: float = 0.0025  # s, at most
    items: tuple[str, ...]  # bodies that move
    fixtures: tuple[str, ...] = ()  # bodies that stand still, in another place each episode

    def __init__(self, level: str, variant: str) -> None:
        self.level = level
        self.variant = variant

    @abstractmethod
    def build(self, spec: mujoco.MjSpec, robot: Robot) -> None:
        """Add the task's bodies, and fit its geometry to the robot."""

    @abstractmethod
    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> str:
        """Place the objects at random and return the instruction."""

    @abstractmethod
    def succeeded(self, scene: Scene) -> bool:
        """Return whether the task is done: at rest, let go."""

    @abstractmethod
    def failed(self, scene: Scene) -> bool:
        """Return whether it can no longer be done; never true together with `succeeded`."""

    @abstractmethod
    def progress(self, scene: Scene) -> float:
        """Return the progress, 0..1, rising smoothly on the way; for diagnosis and the watching person only."""

    @abstractmethod
    def milestones(self, scene: Scene) -> int:
        """Return how many things are achieved, as a person would count them: lifted, delivered."""

    @abstractmethod
    def tactic(self) -> Tactic:
        """Return a fresh tactic."""

    def interact(self, scene: Scene) -> None:  # noqa: B027  (most tasks have nothing to add)
        """Change constraints before a tick of physics: grasps that MuJoCo's contacts cannot hold."""


class Scene(ABC):
    """What tasks and tactics may ask about the simulated world, as of the newest tick."""

    model: mujoco.MjModel
    data: mujoco.MjData
    robot: Robot
    home_poses: dict[str, Pose]  # of each arm's pinch point

    @property
    @abstractmethod
    def time(self) -> float:
        """Simulated time since reset, s."""

    @abstractmethod
    def position(self, item: str) -> np.ndarray:
        """Return a body's position, [3], m."""

    @abstractmethod
    def rotation(self, item: str) -> np.ndarray:
        """Return a body's rotation, [3, 3]."""

    @abstractmethod
    def speed(self, item: str) -> float:
        """Return a free body's speed, m/s, with rotation counted at 2 cm from its centre."""

    @abstractmethod
    def hand(self, arm: str) -> Pose:
        """Return the pose of the point between the arm's pads."""

    @abstractmethod
    def opening(self, arm: str) -> float:
        """Return the measured position of the arm's first finger, m."""

    @abstractmethod
    def supported(self, item: str) -> bool:
        """Return whether the body touches anything but fingers."""

    @abstractmethod
    def touching(self, arm: str, item: str) -> int:
        """Return how many of the arm's two fingers touch the body."""

    def holder(self, item: str) -> str | None:
        """Return the first arm with both fingers on the body."""
        return next((arm for arm in self.robot.arms if self.touching(arm, item) == 2), None)


def free_box(
    spec: mujoco.MjSpec, name: str, half: np.ndarray | list[float], rgba: list[float], mass: float, **options: object
) -> mujoco.MjsBody:
    """Add a box that moves freely, with the friction fingers can hold; `half` sizes in m."""
    body = spec.worldbody.add_body(name=name, pos=[0.1, 0.4, half[2]])
    body.add_freejoint(name=name)
    settings: dict[str, object] = {
        "type": mujoco.mjtGeom.mjGEOM_BOX,
        "size": list(half),
        "mass": mass,
        "rgba": rgba,
        "friction": [1.0, 0.01, 0.001],
        "condim": 4,
        "contype": WORLD_BIT,
        "conaffinity": ALL_BITS,
    }
    body.add_geom(name=name, **(settings | options))
    return body

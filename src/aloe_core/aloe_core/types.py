"""What passes between the robot side and a policy, without ROS and without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Plan:
    """What is left of the chunk that runs while the next one is computed."""

    actions: np.ndarray  # float32 [L, A], joint positions in contract order; row i is row i of the next chunk
    frozen: int  # d, leading rows that will have run before the next chunk takes over; at most L


@dataclass(frozen=True)
class Observation:
    """What the policy sees at one instant."""

    stamp: int  # ns, acquisition
    images: dict[str, np.ndarray]  # camera name -> uint8 [height, width, 3] RGB
    state: np.ndarray  # float32 [J], joint positions in contract order
    instruction: str
    seed: int = 0  # of the episode; makes sampling repeatable
    chunk_number: int = 0  # policy chunks inferred before this one in the episode
    objects: np.ndarray | None = None  # float32 [P], poses in place of images; simulation only
    plan: Plan | None = None  # None: the robot rests while the policy thinks


@dataclass(frozen=True)
class Chunk:
    """Future actions; row i is meant for stamp + i * dt."""

    chunk_id: str
    stamp: int  # ns, of the observation
    dt: float  # s
    actions: np.ndarray  # float32 [H, A], joint positions in contract order
    execute: int  # leading rows meant to run before the next chunk takes over
    policy_version: str
    frozen_steps: int = 0  # leading rows copied from the chunk before

    def index_at(self, stamp: int) -> int:
        """Return the row meant for `stamp` (ns); may lie outside [0, H)."""
        return round((stamp - self.stamp) * 1e-9 / self.dt)


@dataclass(frozen=True)
class Value:
    """The critic's opinion of the chunk that is sent; None fields do not occur, no critic means no Value."""

    q_min: float
    q_mean: float
    q_std: float
    v: float
    critic_version: str

    @property
    def advantage(self) -> float:
        return self.q_min - self.v


@dataclass(frozen=True)
class Inference:
    """One answer of a policy runtime."""

    chunk: Chunk
    value: Value | None
    candidates: int  # chunks sampled
    latency: float  # s


class PolicyRuntime(Protocol):
    """What the policy node and the in-process runner drive."""

    version: str

    def infer(self, obs: Observation) -> Inference:
        """Return the chunk to run; AloeError if the observation does not fit the contract."""
        ...

"""Policies that know nothing: what they achieve needs no skill, so a task should not be done by them."""

from __future__ import annotations

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.types import Chunk, Inference, Observation


class ZeroPolicy:
    """Sends every joint to 0, or to the end of its range nearest to it."""

    version = "zero"

    def __init__(self, contract: RobotContract) -> None:
        self._contract = contract
        self._shape = (contract.chunk.horizon, contract.action_dim)

    def infer(self, obs: Observation) -> Inference:
        contract = self._contract
        rows = self._rows(np.random.default_rng([obs.seed, obs.chunk_number])).astype(np.float32)
        name = f"{self.version}/{obs.seed}/{obs.chunk_number}"
        chunk = Chunk(name, obs.stamp, contract.dt, rows, contract.chunk.execute, self.version)
        return Inference(chunk, None, 1, 0.0)

    def _rows(self, _rng: np.random.Generator) -> np.ndarray:
        return np.clip(np.zeros(self._shape), self._contract.lower, self._contract.upper)


class RandomPolicy(ZeroPolicy):
    """Sends another action at every tick, uniform over the joints' ranges; the arms tremble."""

    version = "random"

    def _rows(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(self._contract.lower, self._contract.upper, self._shape)


class PosturePolicy(ZeroPolicy):
    """Sends another posture with every chunk, uniform over the joints' ranges; the arms sweep over the table."""

    version = "postures"

    def _rows(self, rng: np.random.Generator) -> np.ndarray:
        return np.broadcast_to(rng.uniform(self._contract.lower, self._contract.upper), self._shape)

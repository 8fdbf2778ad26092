"""Policies that know nothing: what succeeds under them needs no skill, so a task must not."""

from __future__ import annotations

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.types import Chunk, Inference, Observation


class ZeroPolicy:
    """Sends every joint to 0, or to the end of its range nearest to it."""

    version = "zero"

    def __init__(self, contract: RobotContract) -> None:
        self._contract = contract

    def infer(self, obs: Observation) -> Inference:
        contract = self._contract
        rows = np.tile(self._posture(obs), (contract.chunk.horizon, 1)).astype(np.float32)
        name = f"{self.version}/{obs.seed}/{obs.chunk_number}"
        chunk = Chunk(name, obs.stamp, contract.dt, rows, contract.chunk.execute, self.version)
        return Inference(chunk, None, 1, 0.0)

    def _posture(self, obs: Observation) -> np.ndarray:
        return np.clip(np.zeros(self._contract.action_dim), self._contract.lower, self._contract.upper)


class RandomPolicy(ZeroPolicy):
    """Sends the joints anywhere in their range, elsewhere with every chunk: noise a tick would hardly move the arms."""

    version = "random"

    def _posture(self, obs: Observation) -> np.ndarray:
        rng = np.random.default_rng([obs.seed, obs.chunk_number])
        return rng.uniform(self._contract.lower, self._contract.upper)

"""The critic that was saved beside a post-trained policy, which chooses among its chunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aloe_core.errors import AloeError
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.remote.lerobot.chunks import LeRobotChunkPolicy
from aloe_policy.remote.lerobot.loading import LeRobotPolicy
from aloe_policy.runtime import CRITIC_CONFIG, CRITIC_FILE, load_weights


class Judge:
    """Q of chunks in the contract's terms, which with no mapping in between are the policy's."""

    def __init__(self, policy: LeRobotPolicy, config: dict[str, Any], weights: Path) -> None:
        """`config`: contents of critic.json. AloeError if it and the weights do not fit each other and the policy."""
        try:
            self._critic = ChunkCritic(CriticConfig.model_validate(config["critic"]))
            self.candidates = int(config["candidates"])  # chunks to sample where the client asks for more
            relative = torch.tensor(config["relative"], dtype=torch.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise AloeError(f"{weights.with_name(CRITIC_CONFIG)}: {' '.join(str(error).split())}.") from error
        load_weights(self._critic, weights)
        if self._critic.config.feature_dim != LeRobotChunkPolicy(policy).spec.feature_dim:
            raise AloeError(f"{weights}: a critic of other features than those of policy {policy.version}.")
        self._device = policy.model.config.device
        self._critic.to(self._device).eval()
        self._relative, self._version = relative.to(self._device), policy.version

    @torch.inference_mode()
    def choose(self, features: Tensor, state: np.ndarray, chunks: np.ndarray) -> tuple[int, dict[str, Any]]:
        """Return which of chunks [n, H, A] has the highest Q_pess, and the fields of an aloe_core.types.Value.

        `features` [1, Z] and the observed positions [J] are those the chunks were sampled for.
        """
        positions = torch.from_numpy(state.astype(np.float32))[None].to(self._device)
        z = features.to(self._device)
        length = torch.full((1,), self._critic.config.steps, device=self._device)
        given = torch.from_numpy(chunks)[None].to(self._device)
        q = self._critic(z, self._critic.encode(given, positions * self._relative, length))[:, 0]
        q_pess = self._critic.pessimistic(q)
        best = int(q_pess.argmax())
        return best, {
            "q_min": float(q_pess[best]),
            "q_mean": float(q[:, best].mean()),
            "q_std": float(q[:, best].std(correction=0)),
            "v": float(q_pess.mean()),
            "critic_version": self._version,
        }


def find_judge(policy: LeRobotPolicy) -> Judge | None:
    """Return the critic beside a policy; None if there is none, or it was fitted to actions in other words."""
    path = policy.directory / CRITIC_CONFIG
    if not path.exists():
        return None
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise AloeError(f"{path}: cannot be read ({error}).") from error
    return None if config.get("mapping") else Judge(policy, config, policy.directory / CRITIC_FILE)

"""A policy of LeRobot whose action expert, or adapters on it, a server trains."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aloe_core.checkpoint import CONFIG, FileContent
from aloe_core.errors import AloeError
from aloe_policy.remote.lerobot.chunks import LeRobotChunkPolicy
from aloe_policy.remote.lerobot.loading import LeRobotPolicy

EXPERT, LORA = "expert", "lora"


class LeRobotTrainee(LeRobotChunkPolicy):
    """Trainee of a LeRobotPolicy: everything but its action expert stands still, and so do its features."""

    def __init__(self, policy: LeRobotPolicy, trains: str, rank: int) -> None:
        """`trains`: expert, or lora for adapters of `rank` on the expert's linear layers."""
        super().__init__(policy)
        self.base, self.loss = policy.version, self.kind.LOSS
        self.trains = trains if trains == EXPERT else f"{trains} {rank}"
        self.model.requires_grad_(False)
        self.weights: dict[str, nn.Parameter]
        if trains == LORA:
            from aloe_critic.remote.lerobot import adapters

            self._merged: Any = partial(adapters.merged, self.model)
            self.weights = adapters.adapt(self.model, self.kind.ADAPTED, rank)
        elif trains == EXPERT:
            self._merged = self.model.state_dict
            self.weights = {n: w for n, w in self.model.named_parameters() if n.startswith(self.kind.EXPERT)}
        else:
            raise AloeError(f"train = {trains!r}: expected {EXPERT} or {LORA}.")
        for weight in self.weights.values():
            weight.requires_grad_(True)

    def train(self, mode: bool) -> None:
        self.model.train(mode)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW as LeRobot's configuration of the policy has it; the learning rate comes with every step."""
        preset = self.model.config.get_optimizer_preset()
        return torch.optim.AdamW(
            self.weights.values(), lr=preset.lr, betas=preset.betas, eps=preset.eps, weight_decay=preset.weight_decay
        )

    def files(self, folder: Path) -> tuple[dict[str, FileContent], dict[str, Any]]:
        """What LeRobot's save_pretrained writes of the policy, adapters merged, and of both processors."""
        with self._said():
            self.model.save_pretrained(folder, state_dict=self._merged())
            self.policy.before.save_pretrained(folder)
            self.policy.after.save_pretrained(folder)
        config = json.loads((folder / CONFIG).read_text())
        names = sorted(path.name for path in folder.iterdir() if path.name != CONFIG)
        return {name: partial(os.replace, folder / name) for name in names}, config

"""A server that trains the head of a native policy: native_trainee.py CHECKPOINT CONTRACT OUT PORT SAVE_PERIOD.

The same server, service and session as LeRobot's; only what is trained is small.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from aloe_core.contract import load_contract
from aloe_critic.remote.service import TrainingService
from aloe_critic.remote.session import Session
from aloe_policy.model import ObsBatch
from aloe_policy.native import NativePolicy
from aloe_policy.remote.native_service import NativeService
from aloe_policy.remote.process import serve_until_signal
from aloe_policy.runtime import load_models, load_runtime
from aloe_policy.text import tokenize


class HeadTrainee(NativePolicy):
    """Trainee of a FlowPolicy; its encoder, and so its features, stand still."""

    def __init__(self, directory, contract):
        models = load_models(directory, contract)
        super().__init__(models.policy.requires_grad_(False))
        self.base, self.trains, self.loss = models.version, "head", "flow matching"
        self.weights = {f"head.{name}": weight for name, weight in self.net.head.named_parameters()}
        for weight in self.weights.values():
            weight.requires_grad_(True)

    def features(self, obs):
        return self.net.features(self._batch(obs))

    def sample(self, obs, n, prefix=None):
        batch = self._batch(obs)
        return super().sample(batch, n, prefix, z=self.net.features(batch))

    def flow_loss(self, obs, chunks, weight):
        return (weight * self.losses(obs, chunks, torch.full((len(chunks),), self.spec.horizon))).mean()

    def losses(self, obs, chunks, length):
        batch = self._batch(obs)
        return self.net.flow_loss(self.net.features(batch), batch.state, chunks, length)

    def train(self, mode):
        self.net.train(mode)

    def optimizer(self):
        return torch.optim.AdamW(self.weights.values(), weight_decay=1e-2)

    def files(self, folder):
        config = {"policy": self.net.config.model_dump(mode="json")}
        return {"model.safetensors": save(self.net.state_dict())}, config

    def _batch(self, obs):
        pictures = [torch.from_numpy(obs[f"observation/{camera}"]) for camera in self.spec.cameras]
        return ObsBatch(
            images=torch.stack(pictures, 1).permute(0, 1, 4, 2, 3),
            state=torch.from_numpy(obs["observation/state"].astype(np.float32)),
            text=torch.tensor([tokenize(prompt, self.net.config.text_buckets) for prompt in obs["prompt"]]),
        )


def main(checkpoint: str, contract_file: str, out: str, port: str, save_period: str) -> None:
    torch.set_num_threads(1)
    contract = load_contract(contract_file)
    trainee = HeadTrainee(checkpoint, contract)
    session = Session(trainee, Path(out), save_period=float(save_period))
    service = TrainingService(NativeService(load_runtime(checkpoint, contract), contract), trainee, session)
    try:
        serve_until_signal(service, "127.0.0.1", int(port))
    finally:
        service.keep()


if __name__ == "__main__":
    main(*sys.argv[1:])

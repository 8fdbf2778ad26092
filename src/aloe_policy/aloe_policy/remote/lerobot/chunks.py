"""A policy of LeRobot behind the policy interface: features, samples and loss of a batch of observations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from aloe_core.errors import AloeError
from aloe_policy.interface import PolicySpec, Prefix
from aloe_policy.remote.lerobot import kinds, sampling
from aloe_policy.remote.lerobot.inputs import Inputs
from aloe_policy.remote.lerobot.loading import LeRobotPolicy
from aloe_policy.swap import MODEL_ERRORS

AT_ONCE = 64  # chunks that are sampled together

Observations = dict[str, Any]  # arrays [B, ...] and a list of B prompts, see Inputs


class LeRobotChunkPolicy:
    """A LeRobotPolicy as a ChunkPolicy; chunks are in the units it was trained in."""

    def __init__(self, policy: LeRobotPolicy) -> None:
        """AloeError for a type of which nothing is known but how to load and ask it."""
        self.policy, self.model = policy, policy.model
        self.kind = kinds.known(policy)
        self.inputs = Inputs(self.model.config)
        config = self.model.config
        made_up = self.inputs.made_up()
        made_up = {key: [value] for key, value in made_up.items()}
        self.spec = PolicySpec(
            cameras=tuple(self.inputs.sizes),
            state_dim=self.inputs.state_dim,
            action_dim=config.action_feature.shape[0],
            horizon=config.chunk_size,
            execute=config.n_action_steps,
            feature_dim=self.features(made_up).shape[1],
            guided=False,
        )

    def features(self, obs: Observations) -> Tensor:
        """[B, Z] float32 of what no training here changes: the pooled trunk and the normalised state."""
        with self._said():
            batch = self.policy.before(self.inputs.batch(obs))
            return sampling.features(self.policy, batch, sampling.encode(self.policy, batch))

    def sample(self, obs: Observations, n: int, prefix: Prefix | None = None) -> Tensor:
        """n chunks of each observation, float32 [B, n, H, A]."""
        if prefix is not None:
            raise AloeError(f"Policy {self.policy.version}: cannot be led towards a prefix.")
        parts = []
        with self._said():
            inputs = self.inputs.batch(obs)
            many = max(1, AT_ONCE // n)
            for begin in range(0, len(inputs["task"]), many):
                part = {key: value[begin : begin + many] for key, value in inputs.items()}
                parts.append(sampling.sample(self.policy, self.policy.before(part), n))
        return torch.cat(parts)

    def losses(self, obs: Observations, chunks: Tensor, length: Tensor) -> Tensor:
        """The policy's loss of each chunk [B, H, A], of which the first length [B] steps exist: [B], with a gradient.

        The model's mode (train, eval) is the caller's.
        """
        with self._said():
            inputs = self.inputs.batch(obs) | {"action": chunks}
            batch = self.policy.before(inputs)
            steps = torch.arange(chunks.shape[1], device=batch["action"].device)
            batch["action_is_pad"] = steps >= length.to(steps)[:, None]
            return self.kind.losses(self.model, batch)

    def flow_loss(self, obs: Observations, chunks: Tensor, weight: Tensor) -> Tensor:
        """Mean of the losses of whole chunks [B, H, A], weighted with [B]: a scalar with a gradient."""
        each = self.losses(obs, chunks, torch.full((len(chunks),), chunks.shape[1]))
        return (weight.to(each) * each).mean()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """What LeRobot raises, in a sentence."""
        try:
            yield
        except MODEL_ERRORS as error:
            text = " ".join(str(error).split())[:400]
            raise AloeError(f"Policy {self.policy.version}: {type(error).__name__}: {text}.") from error

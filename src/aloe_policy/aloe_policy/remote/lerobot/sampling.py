"""What a policy makes of observations that its preprocessor has prepared: an encoding, features of it, chunks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aloe_policy.remote.lerobot import kinds
from aloe_policy.remote.lerobot.loading import LeRobotPolicy

# Switches of a configuration for what only LeRobot's own call does: compiled code, an Aloha's joints turned.
OWN = ("compile_model", "adapt_to_pi_aloha")


@torch.no_grad()
def encode(policy: LeRobotPolicy, batch: dict[str, Any]) -> Any:
    """Return what the type's module makes of B observations once, for features and one call of sample."""
    return kinds.known(policy).encode(policy.model.eval(), batch)


@torch.no_grad()
def features(policy: LeRobotPolicy, batch: dict[str, Any], encoding: Any) -> Tensor:
    """Return what no training here changes: the pooled trunk and the normalised state, float32 [B, Z]."""
    return with_state(kinds.known(policy).pooled(policy.model, encoding, batch), batch)


def with_state(pooled: Tensor, batch: dict[str, Any]) -> Tensor:
    """Return features: the pooled trunk, and beside it the normalised state if there is one, float32 [B, Z]."""
    parts = [pooled, batch["observation.state"]] if "observation.state" in batch else [pooled]
    return torch.cat([part.float() for part in parts], 1)


@torch.no_grad()
def sample(policy: LeRobotPolicy, batch: dict[str, Any], n: int, encoding: Any = None) -> Tensor:
    """Return n chunks for each of B observations in the units the policy was trained in, float32 [B, n, H, A]."""
    model = policy.model.eval()
    kind = kinds.find(model.config.type)
    if kind is None or (encoding is None and n == 1) or any(getattr(model.config, name, False) for name in OWN):
        model.reset()  # some keep what they saw before; every request stands alone
        chunks = model.predict_action_chunk({key: _rows(key, value, n) for key, value in batch.items()})
    else:
        chunks = kind.samples(model, kind.encode(model, batch) if encoding is None else encoding, batch, n)
    return in_units(policy, chunks.unflatten(0, (-1, n)))


@torch.no_grad()
def in_units(policy: LeRobotPolicy, chunks: Tensor) -> Tensor:
    """Return normalised chunks [B, n, H, A] in the units the policy was trained in, float32."""
    # B at a time: actions relative to the state become absolute by the B states that went through `before` last.
    return torch.stack([policy.after(chunks[:, i]).float() for i in range(chunks.shape[1])], 1)


def _rows(key: str, value: Any, n: int) -> Any:
    return value.repeat_interleave(n, 0) if key.startswith("observation.") and isinstance(value, Tensor) else value

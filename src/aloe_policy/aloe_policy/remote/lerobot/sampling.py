"""Chunks of a policy, several for each observation, in the units it was trained in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aloe_policy.remote.lerobot import kinds
from aloe_policy.remote.lerobot.loading import LeRobotPolicy


@torch.no_grad()
def sample(policy: LeRobotPolicy, batch: dict[str, Any], n: int) -> Tensor:
    """Return n chunks for each of B observations that `policy.before` has prepared, float32 [B, n, H, A]."""
    model = policy.model.eval()
    model.reset()  # some keep what they saw before; every request stands alone
    kind = kinds.find(model.config.type)
    chunks = repeated(model, batch, n) if kind is None else kind.samples(model, batch, n)
    chunks = chunks.unflatten(0, (-1, n))
    # B at a time: actions relative to the state become absolute by the B states that went through `before` last.
    return torch.stack([policy.after(chunks[:, i]).float() for i in range(n)], 1)


def repeated(model: Any, batch: dict[str, Any], n: int) -> Tensor:
    """Return n chunks of each observation by LeRobot's own call, [B * n, H, A]; all of it is computed n times."""
    return model.predict_action_chunk({key: _rows(key, value, n) for key, value in batch.items()})


def _rows(key: str, value: Any, n: int) -> Any:
    return value.repeat_interleave(n, 0) if key.startswith("observation.") and isinstance(value, Tensor) else value

"""Frozen features of every observation, computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from aloe_critic.replay import Replay
from aloe_policy.model import FlowPolicy


@torch.inference_mode()
def compute_features(policy: FlowPolicy, replay: Replay, batch: int = 256) -> Tensor:
    """Features of all observation rows, float32 [rows, feature_dim], where the policy is."""
    policy.eval()
    device = policy.state_mean.device
    parts = [policy.features(replay.batch(r).to(device)).float() for r in torch.arange(replay.rows).split(batch)]
    return torch.cat(parts).clone()

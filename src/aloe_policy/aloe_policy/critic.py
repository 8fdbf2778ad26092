"""The chunk critic: an ensemble of Q heads over frozen features and the executed prefix of a chunk."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from aloe_policy.knots import knot_rows


class CriticConfig(BaseModel):
    """Everything needed to build a ChunkCritic before its weights are loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature_dim: int
    action_dim: int
    steps: int  # h, executed prefix that is scored
    knot_stride: int = Field(5, ge=1)
    heads: int = Field(5, ge=1)  # K, with trunks of their own so that their spread means something
    width: int = 256
    layers: int = Field(3, ge=2)


class EnsembleLinear(nn.Module):
    """K independent linear layers as one batched matrix product: [K, B, in] -> [K, B, out]."""

    def __init__(self, heads: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(heads, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(heads, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class ChunkCritic(nn.Module):
    """Q_i(s, a) for i = 1..K; values are normalised returns, about [-2, 0]."""

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.config = config
        rows = knot_rows(config.steps, config.knot_stride)
        k, w = config.heads, config.width
        self.obs = nn.Linear(config.feature_dim, k * w)
        # Knots, which of them ran, and the share of the prefix that ran.
        self.act = nn.Linear(len(rows) * (config.action_dim + 1) + 1, k * w, bias=False)
        self.hidden = nn.ModuleList(EnsembleLinear(k, w, w) for _ in range(config.layers - 1))
        self.out = EnsembleLinear(k, w, 1)
        nn.init.constant_(self.out.bias, -0.5)
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.register_buffer("action_mean", torch.zeros(len(rows), config.action_dim))
        self.register_buffer("action_std", torch.ones(len(rows), config.action_dim))

    def encode(self, chunks: Tensor, anchor: Tensor, length: Tensor) -> Tensor:
        """Prefix tokens [B, n, D] of chunks [B, n, >=h, A], anchor [B, A], executed length [B] (steps, <= h)."""
        knots = (chunks[..., self.rows, :] - anchor[:, None, None] - self.action_mean) / self.action_std
        ran = (self.rows[None] < length[:, None])[:, None, :, None].expand(*knots.shape[:-1], 1)
        share = (length / self.config.steps)[:, None, None].expand(*knots.shape[:2], 1)
        return torch.cat([(knots * ran).flatten(2), ran.flatten(2).to(knots.dtype), share.to(knots.dtype)], -1)

    def forward(self, z: Tensor, tokens: Tensor) -> Tensor:
        """z [B, Z], tokens [B, n, D] -> Q [K, B, n]; the observation part is computed once for all n."""
        b, n, _ = tokens.shape
        k, w = self.config.heads, self.config.width
        h = self.obs(z)[:, None] + self.act(tokens)
        h = h.view(b * n, k, w).transpose(0, 1)
        h = F.silu(F.layer_norm(h, (w,)))
        for layer in self.hidden:
            h = F.silu(F.layer_norm(layer(h), (w,)))
        return self.out(h).view(k, b, n)

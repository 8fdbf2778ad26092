"""The chunk critic: an ensemble of Q heads over frozen features and the executed prefix of a chunk."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from aloe_policy.knots import knot_rows

# Q_pess over heads; lcb: mean - standard deviation; quantile: the lower quartile, less moved by one bad head
Pessimism = Literal["min", "mean", "lcb", "quantile"]


class CriticConfig(BaseModel):
    """Everything needed to build a ChunkCritic before its weights are loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature_dim: int
    action_dim: int
    steps: int  # h, leading steps of a chunk that are scored
    knot_stride: int = Field(5, ge=1)
    heads: int = Field(5, ge=1)  # K
    width: int = 256
    layers: int = Field(3, ge=2)
    shared_trunk: bool = False  # one trunk under K linear heads; else K networks, whose spread means more
    prior: float = Field(0.0, ge=0)  # scale of fixed random networks added to the heads (arXiv 1806.03335)
    pessimism: Pessimism = "min"
    # Leading steps that a second critic scores, from which this one is distilled; 0 = none (DQC, arXiv 2512.10926)
    long_steps: int = Field(0, ge=0)


class EnsembleLinear(nn.Module):
    """K independent linear layers as one batched matrix product: [K, B, in] -> [K, B, out]."""

    def __init__(self, heads: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(heads, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(heads, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class Ensemble(nn.Module):
    """K functions of features and action tokens, every layer of all of them in one matrix product."""

    def __init__(self, config: CriticConfig, tokens: int) -> None:
        super().__init__()
        self.heads, self.width = config.heads, config.width
        self.trunks = 1 if config.shared_trunk else config.heads
        t, w = self.trunks, config.width
        self.obs = nn.Linear(config.feature_dim, t * w)
        self.act = nn.Linear(tokens, t * w, bias=False)
        self.hidden = nn.ModuleList(EnsembleLinear(t, w, w) for _ in range(config.layers - 1))
        self.out = EnsembleLinear(t, w, config.heads // t)

    def forward(self, z: Tensor, tokens: Tensor) -> Tensor:
        """z [B, Z], tokens [B, n, D] -> [K, B, n]; the observation part is computed once for all n."""
        b, n, _ = tokens.shape
        t, w = self.trunks, self.width
        # Heads first, [t, b * n, w], straight from the product: a transposed copy of it costs as much as a small layer.
        h = torch.baddbmm(self.obs.bias.view(t, 1, w), z.expand(t, -1, -1), self.obs.weight.view(t, w, -1).mT)
        act = self.act.weight.view(t, w, -1).mT
        flat = tokens.reshape(b * n, -1).expand(t, -1, -1)
        if n == 1:
            h = torch.baddbmm(h, flat, act)
        else:
            h = (torch.bmm(flat, act).view(t, b, n, w) + h[:, :, None]).view(t, b * n, w)
        h = F.silu(F.layer_norm(h, (w,)))
        for layer in self.hidden:
            h = F.silu(F.layer_norm(layer(h), (w,)))
        with torch.autocast(h.device.type, enabled=False):  # bfloat16 has too few digits for values that are compared
            q = self.out(h.to(self.out.weight.dtype))
        # One of (trunks, heads a trunk) is 1, so their product in either order is the ensemble.
        return q.transpose(1, 2).reshape(self.heads, b, n)


class ChunkCritic(Ensemble):
    """Q_i(s, a) for i = 1..K; values are normalised returns, about [-2, 0]."""

    def __init__(self, config: CriticConfig) -> None:
        rows = knot_rows(config.steps, config.knot_stride)
        # Knots, which of them ran, and the share of the scored steps that ran.
        tokens = len(rows) * (config.action_dim + 1) + 1
        super().__init__(config, tokens)
        self.config = config
        nn.init.constant_(self.out.bias, -0.5)
        self.prior: Ensemble | None = None
        if config.prior:
            self.prior = Ensemble(config, tokens)
            self.prior.requires_grad_(False)
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.register_buffer("action_mean", torch.zeros(len(rows), config.action_dim))
        self.register_buffer("action_std", torch.ones(len(rows), config.action_dim))
        # Takes part in learning only, but goes on learning in the next iteration, so it is part of the checkpoint.
        self.long: ChunkCritic | None = None
        if config.long_steps:
            self.long = ChunkCritic(config.model_copy(update={"steps": config.long_steps, "long_steps": 0}))

    def encode(self, chunks: Tensor, anchor: Tensor, length: Tensor) -> Tensor:
        """Tokens [B, n, D] of chunks [B, n, >=h, A], anchor [B, A], executed length [B] (steps, <= h)."""
        knots = (chunks[..., self.rows, :] - anchor[:, None, None] - self.action_mean) / self.action_std
        ran = (self.rows[None] < length[:, None])[:, None, :, None].expand(*knots.shape[:-1], 1)
        share = (length / self.config.steps)[:, None, None].expand(*knots.shape[:2], 1)
        return torch.cat([(knots * ran).flatten(2), ran.flatten(2).to(knots.dtype), share.to(knots.dtype)], -1)

    def forward(self, z: Tensor, tokens: Tensor) -> Tensor:
        """z [B, Z], tokens [B, n, D] -> Q [K, B, n]."""
        q = super().forward(z, tokens)
        return q if self.prior is None else q + self.config.prior * self.prior(z, tokens)

    def read_heads(self, pessimism: Pessimism) -> None:
        """Take another bound of the heads for Q_pess; what they learned stays."""
        self.config = self.config.model_copy(update={"pessimism": pessimism})
        if self.long is not None:
            self.long.read_heads(pessimism)

    def pessimistic(self, q: Tensor) -> Tensor:
        """Q_pess of an ensemble's values, [K, ...] -> [...]."""
        if self.config.pessimism == "min":
            return q.min(0).values
        if self.config.pessimism == "quantile":
            return q.quantile(0.25, dim=0)
        mean = q.mean(0)
        return mean if self.config.pessimism == "mean" else mean - q.std(0, correction=0)

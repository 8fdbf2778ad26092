"""Conditional flow matching over normalised knots."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Residual MLP block, modulated by the condition (adaptive layer norm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 2 * width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return x + self.outer(F.silu(self.inner(self.norm(x) * (1 + scale) + shift)))


class FlowHead(nn.Module):
    """Velocity field v(x, t | z) with x [.., D], t [.., 1] in [0, 1], z [.., Z].

    Convention: x_t = (1 - t) * noise + t * data, v = data - noise, sampled by Euler from t = 0 to 1.
    """

    def __init__(self, dim: int, cond_dim: int, width: int, blocks: int, steps: int) -> None:
        super().__init__()
        self.dim, self.steps = dim, steps
        self.cond = nn.Sequential(nn.Linear(cond_dim, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width))
        self.time = nn.Linear(32, width)
        self.embed = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, 5, 16)), persistent=False)

    def condition(self, z: Tensor) -> Tensor:
        """Return the part of the field that does not depend on x or t, computed once per observation."""
        return self.cond(z)

    def velocity(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """v at x [.., D], t [.., 1], c = condition(z) [.., width]."""
        angles = t * self.frequencies
        c = F.silu(c + self.time(torch.cat([angles.sin(), angles.cos()], -1)))
        h = self.embed(x)
        for block in self.blocks:
            scale, shift = block.modulate(c).chunk(2, -1)
            h = block(h, scale, shift)
        return self.out(self.norm(h))

    def loss(self, z: Tensor, data: Tensor, valid: Tensor) -> Tensor:
        """Flow-matching error per sample, [B]: data [B, D], valid [B, D] in {0, 1} marks entries that exist."""
        noise = torch.randn_like(data)
        # Beta(1, 1.5): noisier steps, where the observation must decide, are drawn more often (pi0, arXiv 2410.24164).
        t = 1 - torch.rand(data.shape[0], 1, device=data.device).pow(2 / 3)
        v = self.velocity((1 - t) * noise + t * data, t, self.condition(z))
        error = (v - (data - noise)).square() * valid
        return error.sum(-1) / valid.sum(-1).clamp_min(1)

    @torch.no_grad()
    def sample(self, z: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Integrate noise [B, n, D] for z [B, Z] -> data [B, n, D]; the condition is computed once for all n."""
        steps = steps or self.steps
        c = self.condition(z)[:, None].expand(-1, noise.shape[1], -1)
        x = noise
        for i in range(steps):
            t = torch.full((*x.shape[:-1], 1), i / steps, device=x.device, dtype=x.dtype)
            x = x + self.velocity(x, t, c) / steps
        return x

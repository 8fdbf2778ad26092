"""Conditional flow matching with a plain MLP: for flat state vectors, where a large head has nothing to add."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FlowMLP(nn.Module):
    """Velocity field v(x, t | z) of [z, x, t] through `layers` layers of `width`; same convention as FlowHead.

    The first layer is split, so that the part of z is computed once for all samples and all Euler steps.
    """

    def __init__(self, dim: int, cond_dim: int, width: int, layers: int, steps: int) -> None:
        super().__init__()
        self.dim, self.steps = dim, steps
        self.cond = nn.Linear(cond_dim, width)
        self.embed = nn.Linear(dim + 1, width, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.out = nn.Linear(width, dim)

    def velocity(self, x: Tensor, t: Tensor | float, c: Tensor) -> Tensor:
        """v at x [.., D], t [.., 1] or one time for all, c = cond(z) [.., width]; c may be broadcast."""
        h = F.silu(F.linear(x, self.embed.weight[:, :-1]) + (c + t * self.embed.weight[:, -1]))
        for layer in self.hidden:
            h = F.silu(layer(h))
        return self.out(h)

    def draw(self, batch: int, like: Tensor) -> Tensor:
        """Noise and time of a batch, [B, D + 1], on the device and in the type of `like`."""
        noise = torch.randn(batch, self.dim, device=like.device, dtype=like.dtype)
        return torch.cat([noise, torch.rand(batch, 1, device=like.device, dtype=like.dtype)], 1)

    def loss(self, z: Tensor, data: Tensor, drawn: Tensor | None = None) -> Tensor:
        """Flow-matching error per sample, [B]: z [B, Z], data [B, D], drawn [B, D + 1] as by `draw`."""
        drawn = self.draw(len(data), data) if drawn is None else drawn
        noise, t = drawn[:, :-1], drawn[:, -1:]
        v = self.velocity((1 - t) * noise + t * data, t, self.cond(z)).to(data.dtype)
        return (v - (data - noise)).square().mean(-1)

    @torch.no_grad()
    def sample(self, z: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Integrate noise [B, n, D] for z [B, Z] from t = 0 to 1 -> data [B, n, D]."""
        steps = steps or self.steps
        c, x = self.cond(z)[:, None], noise
        for i in range(steps):
            x = x + self.velocity(x, i / steps, c) / steps
        return x

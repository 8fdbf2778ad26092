"""Conditional flow matching over normalised knots."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aloe_policy.given import Given

UNSAID, WORSE, BETTER = 0, 1, 2  # what an indicator says of a chunk (RECAP, arXiv 2511.14759)


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
    With `indicator` the field is also conditioned on UNSAID, WORSE or BETTER, and samples are guided towards BETTER.
    With `given` > 0 it can be conditioned on what will have run, a token of so many numbers.
    """

    def __init__(
        self,
        dim: int,
        cond_dim: int,
        width: int,
        blocks: int,
        steps: int,
        *,
        indicator: bool = False,
        guidance: float = 1.0,
        given: int = 0,
    ) -> None:
        super().__init__()
        self.dim, self.steps, self.guidance = dim, steps, guidance
        self.cond = nn.Sequential(nn.Linear(cond_dim, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width))
        self.time = nn.Linear(32, width)
        self.embed = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, 5, 16)), persistent=False)
        self.indicator = nn.Embedding(3, width) if indicator else None
        if self.indicator is not None:
            nn.init.zeros_(self.indicator.weight)  # says nothing yet: the field is that of the policy it came from
        # Made last, so that without it the weights before it are drawn as ever; no bias, so that no steps say nothing.
        self.given = nn.Linear(given, width, bias=False) if given else None
        if self.given is not None:
            nn.init.zeros_(self.given.weight)

    def condition(self, z: Tensor, said: Tensor | int = UNSAID, given: Given | None = None) -> Tensor:
        """Return the part of the field that does not depend on x or t, computed once per observation."""
        c = self.cond(z)
        if given is not None:
            assert self.given is not None
            c = c + self.given(given.token)
        return c if self.indicator is None else c + self.indicator(torch.as_tensor(said, device=z.device))

    def velocity(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """v at x [.., D], t [.., 1], c = condition(z) [.., width]; t and c may be broadcast."""
        angles = t * self.frequencies
        c = F.silu(c + self.time(torch.cat([angles.sin(), angles.cos()], -1)))
        h = self.embed(x)
        for block in self.blocks:
            scale, shift = block.modulate(c).chunk(2, -1)
            h = block(h, scale, shift)
        return self.out(self.norm(h))

    def draw(self, batch: int, like: Tensor) -> Tensor:
        """Noise and time of a batch, [B, D + 1]: drawn apart from the loss so that processes can share one draw.

        A head that can be given steps has a third part, [B, D + 2]: uniform numbers that say how many are given.
        """
        noise = torch.randn(batch, self.dim, device=like.device, dtype=like.dtype)
        # Beta(1, 1.5): noisier steps, where the observation must decide, are drawn more often (pi0, arXiv 2410.24164).
        t = 1 - torch.rand(batch, 1, device=like.device, dtype=like.dtype).pow(2 / 3)
        if self.given is None:
            return torch.cat([noise, t], 1)
        return torch.cat([noise, t, torch.rand(batch, 1, device=like.device, dtype=like.dtype)], 1)

    def loss(
        self,
        z: Tensor,
        data: Tensor,
        valid: Tensor,
        said: Tensor | int = UNSAID,
        drawn: Tensor | None = None,
        given: Given | None = None,
    ) -> Tensor:
        """Flow-matching error per sample, [B]: data [B, D], valid [B, D] in {0, 1} marks entries that exist."""
        drawn = self.draw(len(data), data) if drawn is None else drawn
        noise, t = drawn[:, : self.dim], drawn[:, self.dim : self.dim + 1]
        v = self.velocity((1 - t) * noise + t * data, t, self.condition(z, said, given)).to(data.dtype)
        error = (v - (data - noise)).square() * valid
        return error.sum(-1) / valid.sum(-1).clamp_min(1)

    def field(self, z: Tensor, given: Given | None = None) -> Callable[[Tensor, float], Tensor]:
        """Return the velocity at (x [B, n, D], t) for z [B, Z]; the condition is computed once for all n and t.

        It has a gradient in x only.
        """
        with torch.no_grad():
            guided = self.indicator is not None
            c = self.condition(z, BETTER if guided else UNSAID, given)[:, None]
            free = self.condition(z, UNSAID, given)[:, None] if guided and self.guidance != 1 else None

        def at(x: Tensor, time: float) -> Tensor:
            # One time for all samples, so that the modulation of the blocks is computed once for all of them as well.
            t = torch.full((len(x), 1, 1), time, device=x.device, dtype=x.dtype)
            v = self.velocity(x, t, c)
            if free is not None:
                v_free = self.velocity(x, t, free)
                v = v_free + self.guidance * (v - v_free)
            return v

        return at

    @torch.no_grad()
    def sample(self, z: Tensor, noise: Tensor, steps: int | None = None, given: Given | None = None) -> Tensor:
        """Integrate noise [B, n, D] for z [B, Z] -> data [B, n, D], with what is given in its place."""
        steps = steps or self.steps
        field = self.field(z, given)
        x = noise
        for i in range(steps):
            x = x + field(x, i / steps) / steps
        return x if given is None else given.insert(x)

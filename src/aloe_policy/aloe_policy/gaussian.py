"""A small squashed Gaussian over normalised knots: the actor of SAC (arXiv 1812.05905, HIL-SERL arXiv 2410.21845)."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG_STD = (-5.0, 1.0)
WIDTH_WEIGHT = 0.1  # of the likelihood beside the squared error in cloning
EDGE = 0.999  # share of the bound that data may reach; at the bound its density is infinite


class GaussianHead(nn.Module):
    """x = bound * tanh(u), u ~ N(mean(z), std(z)); offers what FlowHead offers to the runtime and to cloning."""

    def __init__(self, dim: int, cond_dim: int, width: int, layers: int = 2, bound: float = 5.0) -> None:
        super().__init__()
        self.dim, self.bound = dim, bound
        sizes = [cond_dim, *[width] * layers]
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            parts += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU()]
        self.body = nn.Sequential(*parts)
        self.out = nn.Linear(width, 2 * dim)

    def distribution(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of u, each [B, D]."""
        # In float32 even under autocast: bfloat16 would round the mean by as much as a narrow distribution is wide.
        mean, log_std = self.out(self.body(z)).float().chunk(2, -1)
        low, high = LOG_STD
        # Smooth instead of clamped, so that a value at the limit keeps a gradient.
        return mean, (low + 0.5 * (high - low) * (1 + torch.tanh(log_std))).exp()

    def draw(self, batch: int, like: Tensor) -> Tensor:
        """Noise of a batch, [B, D]."""
        return torch.randn(batch, self.dim, device=like.device, dtype=like.dtype)

    def rsample(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, D], differentiable in the weights, and the log density of each entry [B, D]."""
        mean, std = self.distribution(z)
        u = mean + std * noise
        return self.bound * torch.tanh(u), self._log_density(u, noise, std)

    def log_prob(self, z: Tensor, data: Tensor) -> Tensor:
        """Log density of each entry of data [B, D]; entries beyond the bound count as at it."""
        mean, std = self.distribution(z)
        u = torch.atanh((data / self.bound).clamp(-EDGE, EDGE))
        return self._log_density(u, (u - mean) / std, std)

    def loss(self, z: Tensor, data: Tensor, valid: Tensor, said: int = 0, drawn: Tensor | None = None) -> Tensor:
        """Error of cloning per sample, [B]: data [B, D], valid [B, D] in {0, 1}; nothing is said or drawn.

        The mean is fitted by squared error, for the likelihood of a Gaussian that learns its width as well forgets what
        it finds hard, and that is where the task is decided; the width by the likelihood about that mean.
        """
        del said, drawn
        mean, std = self.distribution(z)
        data = data.clamp(-EDGE * self.bound, EDGE * self.bound)
        u = torch.atanh(data / self.bound)
        error = (self.bound * torch.tanh(mean) - data).square()
        density = self._log_density(u, (u - mean.detach()) / std, std)
        return ((error - WIDTH_WEIGHT * density) * valid).sum(-1) / valid.sum(-1).clamp_min(1)

    @torch.no_grad()
    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """Noise [B, n, D] for z [B, Z] -> data [B, n, D], of which the first is the mode and needs no noise.

        That one drives where one is asked for: noise that differs from knot to knot makes an arm tremble, not explore.
        """
        mean, std = self.distribution(z)
        u = mean[:, None] + std[:, None] * noise
        u[:, 0] = mean
        return self.bound * torch.tanh(u)

    def _log_density(self, u: Tensor, noise: Tensor, std: Tensor) -> Tensor:
        gauss = -0.5 * noise.square() - std.log() - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh^2 u) without cancellation.
        return gauss - 2 * (math.log(2) - u - F.softplus(-2 * u)) - math.log(self.bound)

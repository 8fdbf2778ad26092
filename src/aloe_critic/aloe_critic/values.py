"""State values as a distribution over bins, fitted to Monte Carlo returns (for awr and recap)."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aloe_critic import distributed
from aloe_critic.job import Job
from aloe_critic.loop import Phase
from aloe_critic.replay import Windows
from aloe_critic.replay.drawing import drawing


class Bins:
    """A range of returns cut into bins, and how a return becomes a distribution over them.

    hl_gauss: a normal around the return of 3/4 of a bin's width (HL-Gauss, arXiv 2403.03950); nearest: all on one bin.
    """

    def __init__(self, low: float, high: float, count: int, how: Literal["hl_gauss", "nearest"]) -> None:
        self.edges = torch.linspace(low, high, count + 1)
        self.centers = (self.edges[1:] + self.edges[:-1]) / 2
        self.how = how

    def to(self, device: torch.device) -> Bins:
        """Move to where what is spread is."""
        self.edges, self.centers = self.edges.to(device), self.centers.to(device)
        return self

    def spread(self, returns: Tensor) -> Tensor:
        """Returns [B] -> probabilities [B, bins]; beyond the range they count as at its end."""
        inside = returns.clamp(float(self.centers[0]), float(self.centers[-1]))[:, None]
        if self.how == "nearest":
            return F.one_hot((inside - self.centers).abs().argmin(1), len(self.centers)).to(returns.dtype)
        sigma = 0.75 * float(self.edges[1] - self.edges[0])
        below = torch.erf((self.edges - inside) / (math.sqrt(2) * sigma))
        mass = below[:, 1:] - below[:, :-1]
        return mass / mass.sum(1, keepdim=True)

    def mean(self, logits: Tensor) -> Tensor:
        """Logits [B, bins] -> expected return [B]."""
        return logits.softmax(-1) @ self.centers

    def loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        """Cross entropy per sample [B]."""
        return -(self.spread(returns) * logits.log_softmax(-1)).sum(-1)


class ValueNet(nn.Sequential):
    """A small network over frozen features."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__(
            nn.LayerNorm(inputs),
            *(nn.Linear(inputs, width), nn.LayerNorm(width), nn.SiLU()),
            *(nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU()),
            nn.Linear(width, outputs),
        )


def fit_values(
    job: Job, windows: Windows, z: Tensor, returns: Tensor, rows: Tensor, bins: Bins
) -> tuple[Tensor, float]:
    """Fit V on the returns [N] of windows `rows`; return V at every observation row of z [R, Z], [R] on the CPU,
    and the loss."""
    hyper = job.hyper
    net = ValueNet(z.shape[1], hyper.value_width, len(bins.centers)).to(job.device)
    bins.to(job.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=hyper.value_lr, weight_decay=hyper.value_decay, fused=True)

    draw = drawing(job.replay, windows, hyper, rows)
    batch: dict[str, Tensor] = {}

    def loss(_step: int) -> Tensor:
        pick = distributed.share(draw(hyper.critic_batch))
        batch.update(window=pick, z=z[windows.obs[pick].to(job.device)], returns=returns[pick].to(job.device))
        return bins.loss(net(batch["z"]), batch["returns"]).mean()

    last = job.loop.run(Phase("value", {"value": net}, optimizer, hyper.value_steps, loss, hyper.clip, batch))
    with torch.no_grad():
        return torch.cat([bins.mean(net(part)) for part in z.split(4096)]).cpu(), last

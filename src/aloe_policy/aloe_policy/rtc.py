"""Real-time chunking: a flow is guided, while it is sampled, towards what the chunk before still plans.

arXiv 2506.07339; equations in its notation, where x_1 is data and x_t at t = 0 noise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aloe_policy.chunking import G_MAX
from aloe_policy.flow import FlowHead


def prefix_weights(frozen: int, end: int, horizon: int) -> Tensor:
    """W [H]: 1 for i < frozen, decays over the overlap, 0 from `end` on; (2, 6) gives 1 1 4/5 3/5 2/5 1/5 0 0."""
    i = torch.arange(horizon)
    decay = (end - i) / max(end - frozen + 1, 1)
    return torch.where(i < frozen, 1.0, decay.clamp(0, 1)) * (i < end)


def led_over(chunks: Tensor, planned: Tensor, frozen: int) -> Tensor:
    """Chunks [.., H, A] whose leading rows go over from `planned` [L, A] with the weights W of the guidance.

    A flow that is sure of its answer hardly yields to guidance, and what is left of the difference would be a jump.
    """
    rows = min(len(planned), chunks.shape[-2])
    weights = prefix_weights(frozen, rows, rows).to(chunks)[:, None]
    mixed = chunks.clone()
    mixed[..., :rows, :] += weights * (planned[:rows].to(chunks) - chunks[..., :rows, :])
    return mixed


def guidance(t: float, g_max: float = G_MAX) -> float:
    """min(c / r^2, g_max) with c = (1 - t) / t and 1 / r^2 = (t^2 + (1 - t)^2) / (1 - t)^2; t in [0, 1)."""
    if t <= 0:
        return g_max
    return min((t**2 + (1 - t) ** 2) / (t * (1 - t)), g_max)


def guided_sample(
    head: FlowHead, z: Tensor, noise: Tensor, correction: Callable[[Tensor], Tensor], g_max: float = G_MAX
) -> Tensor:
    """Integrate noise [B, n, D] for z [B, Z] -> data [B, n, D], as FlowHead.sample does, guided.

    `correction` maps an estimate x_1 [B, n, D] to (Y - x_1) * W in the same space. May be called in inference mode.
    """
    with torch.inference_mode(False):
        field = head.field(z.clone())  # a copy: what inference mode made cannot take part in a gradient
        x = noise.clone()
        for step in range(head.steps):
            t = step / head.steps
            with torch.enable_grad():
                x.requires_grad_()
                v = field(x, t)
                x_1 = x + (1 - t) * v
                (pull,) = torch.autograd.grad(x_1, x, correction(x_1.detach()))
            x = (x + (v + guidance(t, g_max) * pull) / head.steps).detach()
        return x

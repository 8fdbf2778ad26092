"""Fitting a policy to windows: flow matching end to end, then of the head alone on frozen features."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from aloe_critic import distributed
from aloe_critic.features import compute_features
from aloe_critic.hyper import Hyper
from aloe_critic.job import Job
from aloe_critic.loop import Phase
from aloe_critic.precision import autocast
from aloe_critic.replay import Windows
from aloe_policy.flow import UNSAID
from aloe_policy.model import FlowPolicy

STATE_FLOOR = 0.01  # rad or m; a joint that varies less says nothing


@dataclass
class Examples:
    """What a policy is fitted to."""

    windows: Windows
    rows: Tensor  # int64 [M], the windows to imitate
    weight: Tensor | None = None  # float32 [M], in proportion to which they are drawn; None = equally
    said: Tensor | None = None  # int64 [M], indicator of each window (aloe_policy.flow); None = unsaid
    dropout: float = 0.0  # chance that an indicator is left unsaid

    def draw(self, batch: int) -> tuple[Tensor, Tensor | int]:
        """Return windows int64 [batch] and what is said of each.

        Drawing in proportion to w has the expectation of multiplying by it, with less variance.
        """
        chance = torch.ones(len(self.rows)) if self.weight is None else self.weight
        index = torch.multinomial(chance, batch, replacement=True)
        if self.said is None:
            return self.rows[index], UNSAID
        said = torch.where(torch.rand(batch) < self.dropout, UNSAID, self.said[index])
        return self.rows[index], distributed.share(said)


def refit(policy: FlowPolicy, job: Job, examples: Examples, phase: str = "actor") -> tuple[Tensor, float]:
    """Improve the policy on weighted examples; return its new features [rows, Z] and the loss.

    The same optimisation for every method, so that their comparison is one of data and weights.
    """
    hyper = job.hyper
    fit(policy, job, examples, steps=hyper.actor_steps, lr=hyper.actor_lr, phase=phase)
    z = compute_features(policy, job.replay)  # the encoder moved with the policy
    loss = fit_head(policy, job, examples, z, steps=hyper.actor_head_steps, lr=hyper.head_lr, phase=f"{phase}, head")
    return z, loss


def fit(policy: FlowPolicy, job: Job, examples: Examples, *, steps: int, lr: float, phase: str) -> float:
    """Flow matching end to end; returns the last tenth's mean loss."""
    hyper, windows, on = job.hyper, examples.windows, job.device
    state = job.replay.state()
    moving = (policy.state_std > STATE_FLOOR).cpu()
    share = distributed.share
    newest: dict[str, Tensor] = {}

    def loss(_step: int) -> Tensor:
        # All that is random is drawn for the whole batch, which processes then share.
        pick, said = examples.draw(hyper.bc_batch)
        noise = torch.randn(hyper.bc_batch, state.shape[1]) * hyper.state_noise * moving
        light = torch.rand(2, hyper.bc_batch, len(job.contract.cameras))
        drawn = share(policy.head.draw(hyper.bc_batch, state))
        pick, noise, light = share(pick), share(noise), torch.stack([share(part) for part in light])
        obs = windows.obs[pick]
        batch = job.replay.batch(obs).to(on)
        images = None if batch.images is None else augment(batch.images, light.to(on), hyper)
        newest.update(window=pick, state=batch.state + noise.to(on), chunk=windows.chunk[pick].to(on))
        if images is not None:
            newest["images"] = images
        batch = replace(batch, images=images, state=newest["state"])
        with autocast(hyper):
            z = policy.features(batch)
        return policy.flow_loss(
            z.float(),
            state[obs].to(on),
            newest["chunk"],
            windows.plan_length[pick].to(on),
            placed(said, on),
            drawn.to(on),
        ).mean()

    policy.train()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr, weight_decay=1e-4, fused=True)
    shards = "policy", ("features", "flow_loss")
    result = job.loop.run(
        Phase(
            phase,
            {"policy": policy},
            optimizer,
            steps,
            loss,
            hyper.clip,
            newest,
            rate=warm_cosine(lr, steps),
            shards=shards,
        )
    )
    policy.eval()
    return result


def fit_head(
    policy: FlowPolicy, job: Job, examples: Examples, z: Tensor, *, steps: int, lr: float, phase: str
) -> float:
    """Flow matching of the head alone on features z [observations, Z]; returns the mean loss of the last tenth.

    The flow needs far more samples of noise and time than the encoder needs pictures (measured: 0.57 to 0.97 success
    from the same 30 demonstrations), and without the encoder a sample costs a tenth.
    """
    hyper, windows, state, on = job.hyper, examples.windows, job.replay.state(), job.device
    batch: dict[str, Tensor] = {}

    def loss(_step: int) -> Tensor:
        pick, said = examples.draw(hyper.head_batch)
        drawn = distributed.share(policy.head.draw(hyper.head_batch, state)).to(on)
        blur = distributed.share(torch.randn(hyper.head_batch, z.shape[1])) if hyper.feature_noise else None
        pick = distributed.share(pick)
        obs = windows.obs[pick]
        seen = z[obs.to(on)]
        if blur is not None:
            seen = seen + hyper.feature_noise * blur.to(on)
        batch.update(window=pick, z=seen, state=state[obs].to(on), chunk=windows.chunk[pick].to(on))
        length, told = windows.plan_length[pick].to(on), placed(said, on)
        with autocast(hyper):
            error = policy.flow_loss(seen, batch["state"], batch["chunk"], length, told, drawn)
        return error.mean()

    policy.head.train()
    optimizer = torch.optim.AdamW(policy.head.parameters(), lr=lr, weight_decay=1e-4, fused=True)
    shards = "head", ("loss",)
    result = job.loop.run(
        Phase(
            phase,
            {"head": policy.head},
            optimizer,
            steps,
            loss,
            hyper.clip,
            batch,
            rate=warm_cosine(lr, steps),
            shards=shards,
        )
    )
    policy.head.eval()
    return result


def placed(said: Tensor | int, device: torch.device) -> Tensor | int:
    """Return what is said of each example where the policy is."""
    return said.to(device) if isinstance(said, Tensor) else said


def augment(images: Tensor, light: Tensor, hyper: Hyper) -> Tensor:
    """Random shift per camera, brightness and contrast per sample from light [2, B, cameras] in [0, 1].

    uint8 [B, cameras, 3, H, W] in, float in [0, 255] out.
    """
    cameras, height, width = images.shape[1], *images.shape[-2:]
    s = hyper.image_shift
    if s:
        # One shift per camera and step: slices cost nothing, and over the steps every sample sees every shift.
        padded = F.pad(images, (s, s, s, s))
        corners = torch.randint(0, 2 * s + 1, (cameras, 2)).tolist()
        images = torch.stack([padded[:, c, :, y : y + height, x : x + width] for c, (y, x) in enumerate(corners)], 1)
    gain, offset = (hyper.brightness * (2 * light - 1))[..., None, None, None]
    return (images * (1 + gain) + 255 * 0.5 * offset).clamp_(0, 255)


def warm_cosine(base: float, steps: int) -> Callable[[int], float]:
    """Return the learning rate of a step: 50 steps of warm-up, then a half cosine to 0."""
    return lambda step: base * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))

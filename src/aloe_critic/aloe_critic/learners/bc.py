"""Behaviour cloning of successful demonstrations, images to chunks, end to end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.hyper import Hyper
from aloe_critic.job import Job, Learned, check_finite
from aloe_critic.replay import Replay, Windows
from aloe_policy.config import FlowConfig
from aloe_policy.model import FlowPolicy, ObsBatch


def learn(job: Job) -> Learned:
    """Train a policy on human windows of successful episodes; starts from `job.policy` if there is one."""
    windows = job.replay.windows(gamma=job.hyper.gamma, max_length=1, failure_cost=1)
    keep = job.replay.outcome(Outcome.SUCCESS)[windows.episode] & (windows.source == int(Source.HUMAN))
    rows = keep.nonzero().squeeze(1)
    if len(rows) == 0:
        raise AloeError("Behaviour cloning: no successful demonstration among the bags; record or label some.")
    policy = job.policy or new_policy(job.contract, job.hyper, job.replay, windows, rows)
    loss = fit(policy, job, windows, rows)
    return Learned(policy, None, 1, {"bc_loss": loss, "bc_windows": len(rows)})


def new_policy(
    contract: RobotContract, hyper: Hyper, replay: Replay, windows: Windows, rows: Tensor
) -> FlowPolicy:
    """Return an untrained policy with the normalisation of these windows."""
    config = FlowConfig.for_contract(contract, keypoints=hyper.keypoints, width_head=hyper.width_head)
    policy = FlowPolicy(config)
    state = replay.state()[windows.obs[rows]]
    policy.state_mean.copy_(state.mean(0))
    policy.state_std.copy_(state.std(0).clamp_min(0.01))
    knots = policy.encode_actions(windows.chunk[rows], state)  # buffers are 0 and 1 still: raw relative knots
    policy.knot_mean.copy_(knots.mean(0))
    # A floor well above the noise of an arm at rest, or its jitter would count as much as the task.
    policy.knot_std.copy_(knots.std(0).clamp_min(0.02))
    small = torch.tensor([j.unit == "m" for j in contract.joints])
    policy.knot_std[:, small] = knots.std(0)[:, small].clamp_min(0.002)
    return policy


def fit(policy: FlowPolicy, job: Job, windows: Windows, rows: Tensor, weight: Tensor | None = None) -> float:
    """Flow matching end to end on `rows`, each counted by `weight`; returns the mean loss of the last tenth."""
    hyper = job.hyper
    policy.train()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=hyper.bc_lr, weight_decay=1e-4, fused=True)
    images, frame = job.replay.images(), job.replay.frame_index()
    state, text = job.replay.state(), job.replay.text()
    recent: list[float] = []
    for step in range(hyper.bc_steps):
        _set_lr(optimizer, hyper.bc_lr, step, hyper.bc_steps)
        pick = rows[torch.randint(len(rows), (hyper.bc_batch,))]
        obs = windows.obs[pick]
        pixels = torch.stack([images[c][frame[obs, c]] for c in range(len(images))], 1)
        noisy = state[obs] + hyper.state_noise * torch.randn_like(state[obs]) * (policy.state_std > 0.011)
        batch = ObsBatch(augment(pixels, hyper), noisy, text[obs])
        with torch.autocast(hyper.device, torch.bfloat16):
            z = policy.features(batch)
        loss = policy.flow_loss(z.float(), state[obs], windows.chunk[pick], windows.plan_length[pick])
        loss = loss.mean() if weight is None else (weight[pick] * loss).mean()
        check_finite(loss, "cloning", step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), hyper.clip)
        optimizer.step()
        if step >= 0.9 * hyper.bc_steps:
            recent.append(loss.item())
        if step % 10 == 9 or step == hyper.bc_steps - 1:
            job.progress("cloning", step + 1, hyper.bc_steps, loss.item())
    policy.eval()
    return sum(recent) / max(1, len(recent))


def augment(images: Tensor, hyper: Hyper) -> Tensor:
    """Random shift per sample and camera, random brightness and contrast; uint8 in, float in [0, 255] out."""
    b, cameras, _, height, width = images.shape
    x = images.flatten(0, 1)
    s = hyper.image_shift
    if s:
        padded = torch.nn.functional.pad(x.float(), (s, s, s, s), mode="replicate")
        top, left = torch.randint(0, 2 * s + 1, (2, b * cameras))
        ys = top[:, None] + torch.arange(height)
        xs = left[:, None] + torch.arange(width)
        index = torch.arange(b * cameras)[:, None, None, None]
        channel = torch.arange(3)[None, :, None, None]
        x = padded[index, channel, ys[:, None, :, None], xs[:, None, None, :]]
    gain = 1 + hyper.brightness * (2 * torch.rand(b * cameras, 1, 1, 1) - 1)
    offset = 255 * hyper.brightness * 0.5 * (2 * torch.rand(b * cameras, 1, 1, 1) - 1)
    return (x * gain + offset).clamp(0, 255).view_as(images)


def _set_lr(optimizer: torch.optim.Optimizer, base: float, step: int, total: int) -> None:
    warm = min(1.0, (step + 1) / 50)
    for group in optimizer.param_groups:
        group["lr"] = base * warm * 0.5 * (1 + math.cos(math.pi * step / total))

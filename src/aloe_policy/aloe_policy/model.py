"""The native policy: a compact flow-matching vision-language-action model."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aloe_policy.config import FlowConfig
from aloe_policy.flow import UNSAID, FlowHead
from aloe_policy.gaussian import GaussianHead
from aloe_policy.given import Given, drawn_delay, token_size
from aloe_policy.knots import interpolation, knot_rows
from aloe_policy.text import PAD
from aloe_policy.vision import KeypointEncoder


@dataclass(frozen=True)
class ObsBatch:
    """A batch of observations."""

    images: Tensor | None  # uint8 [B, cameras, 3, H, W], cameras in config order; None where objects are seen instead
    state: Tensor  # float32 [B, J]
    text: Tensor  # int64 [B, words]
    objects: Tensor | None = None  # float32 [B, P]

    def to(self, device: torch.device) -> ObsBatch:
        """Return the same observations on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return ObsBatch(**{name: t if t is None else t.to(device) for name, t in moved.items()})


class FlowPolicy(nn.Module):
    """Images, joint positions and text to chunks of joint positions.

    `features` is computed once per observation; flow loss, sampling and the critic all start from it.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        rows = knot_rows(config.horizon, config.knot_stride)
        self.knots = len(rows)
        self.encoders = nn.ModuleList(KeypointEncoder(config.channels, config.keypoints) for _ in config.cameras)
        self.words = nn.Embedding(config.text_buckets, config.text_dim, padding_idx=PAD)
        seen = 3 * config.keypoints * len(config.cameras) + config.objects
        self.feature_dim = seen + config.text_dim + config.state_dim
        dim = self.knots * config.action_dim
        self.head: FlowHead | GaussianHead
        if config.head == "flow":
            self.head = FlowHead(
                dim,
                self.feature_dim,
                config.width_head,
                config.blocks_head,
                config.flow_steps,
                indicator=config.indicator,
                guidance=config.guidance,
                given=token_size(config.prefix, config.action_dim),
            )
        else:
            self.head = GaussianHead(dim, self.feature_dim, config.width_head)
        relative = torch.ones(config.action_dim)
        relative[list(config.gripper_dims)] = 0.0
        self.register_buffer("relative", relative, persistent=False)
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.register_buffer("interpolation", interpolation(config.horizon, config.knot_stride), persistent=False)
        # Normalisation is part of the weights: a policy without its own statistics is another policy.
        self.register_buffer("state_mean", torch.zeros(config.state_dim))
        self.register_buffer("state_std", torch.ones(config.state_dim))
        if config.objects:
            self.register_buffer("objects_mean", torch.zeros(config.objects))
            self.register_buffer("objects_std", torch.ones(config.objects))
        self.register_buffer("knot_mean", torch.zeros(self.knots, config.action_dim))
        self.register_buffer("knot_std", torch.ones(self.knots, config.action_dim))

    def features(self, obs: ObsBatch) -> Tensor:
        """[B, feature_dim]: keypoints per camera or normalised objects, mean word embedding, normalised state."""
        present = (obs.text != PAD).float()
        text = self.words(obs.text).sum(1) / present.sum(1, keepdim=True).clamp_min(1)
        return torch.cat([*self._seen(obs), text, self.normal_state(obs.state)], 1)

    def _seen(self, obs: ObsBatch) -> list[Tensor]:
        if self.config.objects:
            assert obs.objects is not None
            return [(obs.objects - self.objects_mean) / self.objects_std]
        assert obs.images is not None
        images = obs.images.to(self.state_mean.dtype).div(127.5).sub(1.0)
        if images.shape[-2:] != (self.config.height, self.config.width):
            size = (self.config.height, self.config.width)
            images = F.interpolate(images.flatten(0, 1), size, mode="area").view(*images.shape[:3], *size)
        return [
            encoder(images[:, i].contiguous(memory_format=torch.channels_last))
            for i, encoder in enumerate(self.encoders)
        ]

    def normal_state(self, state: Tensor) -> Tensor:
        return (state - self.state_mean) / self.state_std

    def encode_actions(self, chunks: Tensor, state: Tensor) -> Tensor:
        """Chunks [B, n, H, A] (or [B, H, A]) seen from state [B, J] -> normalised knots [.., knots, A]."""
        anchor = (state * self.relative).view(state.shape[0], *[1] * (chunks.dim() - 2), -1)
        return (chunks[..., self.rows, :] - anchor - self.knot_mean) / self.knot_std

    def decode_actions(self, knots: Tensor, state: Tensor) -> Tensor:
        """Normalised knots [B, n, knots, A] and state [B, J] -> joint positions [B, n, H, A]."""
        anchor = (state * self.relative)[:, None, None]
        return self.interpolation @ (knots * self.knot_std + self.knot_mean + anchor)

    def flow_loss(
        self,
        z: Tensor,
        state: Tensor,
        chunks: Tensor,
        length: Tensor,
        said: Tensor | int = UNSAID,
        drawn: Tensor | None = None,
    ) -> Tensor:
        """Flow-matching error per sample [B]; chunks [B, H, A] of which the first length [B] steps exist.

        `said` [B] is the indicator of a policy that has one, `drawn` = head.draw(B) if the caller draws. A policy that
        can be given steps is given as many as `drawn` says, but leaves one to predict.
        """
        data = self.encode_actions(chunks, state)
        valid = (self.rows[None] < length[:, None])[..., None].expand_as(data).flatten(1).to(data.dtype)
        if not self.config.prefix:
            return self.head.loss(z, data.flatten(1), valid, said, drawn)
        assert isinstance(self.head, FlowHead)
        drawn = self.head.draw(len(data), data) if drawn is None else drawn
        steps = torch.minimum(drawn_delay(drawn[:, -1], self.config.prefix), length - 1)
        return self.head.loss(z, data.flatten(1), valid, said, drawn, self.given(chunks, state, steps))

    def given(self, planned: Tensor, state: Tensor, steps: Tensor) -> Given:
        """The first steps [B] (at most `prefix`) of planned [B, L, A], joint positions, seen from state [B, J]."""
        p, last = self.config.prefix, planned.shape[1] - 1
        anchor = (state * self.relative)[:, None]
        spread = self.interpolation[:p] @ self.knot_std
        normal = planned[:, torch.arange(p, device=state.device).clamp_max(last)] - anchor
        normal = (normal - self.interpolation[:p] @ self.knot_mean) / spread
        told = torch.arange(p, device=state.device) < steps[:, None]
        knots = (planned[:, self.rows.clamp_max(last)] - anchor - self.knot_mean) / self.knot_std
        fixed = (self.rows < steps[:, None])[..., None].expand_as(knots)
        token = torch.cat([(normal * told[..., None]).flatten(1), told.to(normal.dtype)], 1)
        return Given(token, knots.flatten(1), fixed.flatten(1))

    def sample_knots(
        self, z: Tensor, n: int, generator: torch.Generator | None = None, given: Given | None = None
    ) -> Tensor:
        """n samples for each z [B, Z] -> normalised knots [B, n, knots, A], around what is given."""
        shape = (z.shape[0], n, self.head.dim)
        noise = torch.randn(shape, generator=generator, device=z.device, dtype=z.dtype)
        if given is None:
            return self.head.sample(z, noise).unflatten(-1, (self.knots, -1))
        assert isinstance(self.head, FlowHead)
        return self.head.sample(z, noise, given=given).unflatten(-1, (self.knots, -1))

"""The native policy behind the policy interface."""

from __future__ import annotations

import torch
from torch import Tensor

from aloe_core.errors import AloeError
from aloe_policy.chunking import Chunking
from aloe_policy.ensembling import ensembled
from aloe_policy.flow import FlowHead
from aloe_policy.interface import PolicySpec, Prefix
from aloe_policy.model import FlowPolicy, ObsBatch
from aloe_policy.rtc import guided_sample, led_over, prefix_weights


class NativePolicy:
    """A FlowPolicy as a ChunkPolicy; `chunking` says what a prefix means to it."""

    def __init__(self, net: FlowPolicy, chunking: Chunking | None = None) -> None:
        self.net = net
        self.chunking = chunking or Chunking()
        config = net.config
        self.spec = PolicySpec(
            cameras=config.cameras,
            state_dim=config.state_dim,
            action_dim=config.action_dim,
            horizon=config.horizon,
            execute=config.execute,
            feature_dim=net.feature_dim,
            guided=isinstance(net.head, FlowHead),
            prefix=config.prefix,
        )
        # Maps values of the steps to those knots whose interpolation is nearest to them (least squares).
        self._to_knots = torch.linalg.pinv(net.interpolation.double()).to(net.interpolation)

    def features(self, obs: ObsBatch) -> Tensor:
        """[B, Z]."""
        return self.net.features(obs)

    def sample(
        self,
        obs: ObsBatch,
        n: int,
        prefix: Prefix | None = None,
        *,
        z: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """n chunks of each observation, [B, n, H, A]; `z` = features(obs) if the caller has them.

        Under `receding` a prefix means nothing. Otherwise its frozen rows are those of every chunk.
        """
        z = self.features(obs) if z is None else z
        mode = self.chunking.mode if prefix is not None else "receding"
        if mode == "rtc" and prefix is not None and prefix.frozen:
            knots = self._guided(z, obs.state, n, prefix, generator)
        elif mode == "prefix" and prefix is not None and prefix.frozen:
            knots = self._around(z, obs.state, n, prefix, generator)
        else:
            knots = self.net.sample_knots(z, n, generator)
        chunks = self.net.decode_actions(knots, obs.state)
        if prefix is None or mode == "receding":
            return chunks
        if mode == "ensemble":
            chunks = ensembled(chunks, prefix.actions, self.chunking.fresh)
        if mode == "rtc" and prefix.frozen:
            chunks = led_over(chunks, prefix.actions, prefix.frozen)
        if prefix.frozen:
            chunks[..., : prefix.frozen, :] = prefix.actions[: prefix.frozen]
        return chunks

    def flow_loss(self, obs: ObsBatch, chunks: Tensor, weight: Tensor) -> Tensor:
        """Mean of the flow-matching errors of whole chunks [B, H, A], weighted with [B]."""
        length = torch.full((len(chunks),), self.spec.horizon, device=chunks.device)
        return (weight * self.net.flow_loss(self.features(obs), obs.state, chunks, length)).mean()

    def _around(self, z: Tensor, state: Tensor, n: int, prefix: Prefix, generator: torch.Generator | None) -> Tensor:
        """Normalised knots [B, n, knots, A] of a flow that was trained to be given the frozen steps."""
        if prefix.frozen > self.spec.prefix:
            raise AloeError(
                f"{prefix.frozen} steps of the chunk will have run, but this policy can be given {self.spec.prefix}: "
                "train it with --set prefix=true, or take another chunking."
            )
        planned = prefix.actions.to(state)[None].expand(len(z), -1, -1)
        steps = torch.full((len(z),), prefix.frozen, device=state.device)
        return self.net.sample_knots(z, n, generator, self.net.given(planned, state, steps))

    def _guided(self, z: Tensor, state: Tensor, n: int, prefix: Prefix, generator: torch.Generator | None) -> Tensor:
        """Normalised knots [B, n, knots, A], guided towards the prefix.

        The prefix is about control steps, the flow about knots: the weighted error of the decoded steps goes back to
        the knots by least squares (docs/adr/0011-guidance-over-knots.md).
        """
        net, head = self.net, self.net.head
        assert isinstance(head, FlowHead)
        rows = min(len(prefix.actions), self.spec.horizon)
        weights = prefix_weights(prefix.frozen, rows, self.spec.horizon).to(state)[:rows, None]
        planned, to_knots = prefix.actions[:rows].to(state), self._to_knots[:, :rows].to(state)

        def correction(x: Tensor) -> Tensor:
            steps = net.decode_actions(x.unflatten(-1, (net.knots, -1)), state)[..., :rows, :]
            return (to_knots @ (weights * (planned - steps)) / net.knot_std).flatten(-2)

        noise = torch.randn((len(z), n, head.dim), generator=generator, device=z.device, dtype=z.dtype)
        return guided_sample(head, z, noise, correction, self.chunking.g_max).unflatten(-1, (net.knots, -1))

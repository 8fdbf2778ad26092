"""What a policy offers to whoever drives it, trains it or scores it: a dozen lines, for every kind of policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

Obs = TypeVar("Obs", contravariant=True)


@dataclass(frozen=True)
class PolicySpec:
    """Sizes that a policy promises."""

    cameras: tuple[str, ...]
    state_dim: int  # J
    action_dim: int  # A
    horizon: int  # H, control steps of a chunk
    execute: int  # h, leading steps that run and are scored
    feature_dim: int  # Z
    guided: bool  # can be led towards a prefix while it samples
    prefix: int = 0  # leading steps it was trained to be given; 0 = none


@dataclass(frozen=True)
class Prefix:
    """What new chunks must agree with (ALGORITHMS, real-time chunking)."""

    actions: Tensor  # [L, A], joint positions of the leading L steps as planned before
    frozen: int  # d, of which so many will have run


class ChunkPolicy(Protocol, Generic[Obs]):
    """A batch of B observations in, chunks of joint positions out."""

    spec: PolicySpec

    def features(self, obs: Obs) -> Tensor:
        """What the critic sees of each observation, [B, Z]."""
        ...

    def sample(self, obs: Obs, n: int, prefix: Prefix | None = None) -> Tensor:
        """n chunks of each observation, [B, n, H, A]; `prefix` holds for all of them."""
        ...

    def flow_loss(self, obs: Obs, chunks: Tensor, weight: Tensor) -> Tensor:
        """Weighted flow-matching loss of chunks [B, H, A] with weight [B]: a scalar with a gradient."""
        ...

"""What a critic must know of the policy whose chunks it judges."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class ChunkSizes(Protocol):
    """Sizes of a policy's chunks; a FlowConfig has them."""

    @property
    def action_dim(self) -> int: ...  # A

    @property
    def horizon(self) -> int: ...  # H

    @property
    def execute(self) -> int: ...  # h, leading steps that run and are scored

    @property
    def knot_stride(self) -> int: ...  # every so many steps the critic looks at one


class Judged(Protocol):
    """A FlowPolicy, or what a policy behind a server has in common with it."""

    @property
    def config(self) -> ChunkSizes: ...

    feature_dim: int  # Z
    relative: Tensor  # [A], 1 for joints whose positions are judged relative to the state, 0 for grippers

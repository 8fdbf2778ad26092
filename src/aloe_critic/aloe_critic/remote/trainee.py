"""What a policy must offer to be trained by a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from aloe_core.checkpoint import FileContent
from aloe_policy.interface import ChunkPolicy

Observations = dict[str, Any]  # arrays [B, ...] and a list of B prompts


class Trainee(ChunkPolicy[Observations], Protocol):
    """A ChunkPolicy some of whose weights may move; its features do not depend on them."""

    base: str  # version that was loaded
    trains: str  # which weights move, in a word
    loss: str  # what is minimised, in a word or two
    weights: Mapping[str, nn.Parameter]  # those that move

    def losses(self, obs: Observations, chunks: Tensor, length: Tensor) -> Tensor:
        """Loss of each chunk [B, H, A], of which the first length [B] steps exist: [B], with a gradient."""
        ...

    def train(self, mode: bool) -> None:
        """Set the mode of the next losses: dropout and the like."""
        ...

    def optimizer(self) -> torch.optim.Optimizer:
        """Return a new optimiser of `weights`."""
        ...

    def files(self, folder: Path) -> tuple[dict[str, FileContent], dict[str, Any]]:
        """Return the files of a version that the server can load, and its config.json; `folder` is for scratch."""
        ...

"""What every learner is given and gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_critic.hyper import Hyper
from aloe_critic.replay import Replay
from aloe_policy.critic import ChunkCritic
from aloe_policy.model import FlowPolicy

Progress = Callable[[str, int, int, float], None]  # phase, step, steps of the phase, loss


@dataclass
class Job:
    """One training run."""

    contract: RobotContract
    replay: Replay
    hyper: Hyper
    progress: Progress
    policy: FlowPolicy | None = None  # to start from; None = from scratch
    critic: ChunkCritic | None = None
    reward_scale: tuple[float, float] | None = None  # (max_length, C_fail) in steps that `critic` was fitted with

    def needs_policy(self, method: str) -> FlowPolicy:
        """Return the policy to improve; AloeError if there is none."""
        if self.policy is None:
            raise AloeError(
                f"Method {method} improves a policy: train one with --method bc first, or name it with --init."
            )
        return self.policy


@dataclass
class Learned:
    """The result of a training run."""

    policy: FlowPolicy
    critic: ChunkCritic | None
    candidates: int  # chunks to sample on the robot
    reward_scale: tuple[float, float] | None = None
    metrics: dict[str, object] = field(default_factory=dict)


def check_finite(loss: torch.Tensor, phase: str, step: int) -> None:
    """AloeError when a loss stops being a number."""
    if not torch.isfinite(loss):
        raise AloeError(f"Training diverged: {phase} loss is {loss.item()} at step {step}; lower its learning rate.")

"""What every learner is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from aloe_core.checkpoint import read_manifest
from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_critic.hyper import Hyper
from aloe_critic.judged import Judged
from aloe_critic.loop import Loop, Progress
from aloe_critic.precision import device_of
from aloe_critic.replay import Replay
from aloe_policy.critic import ChunkCritic
from aloe_policy.model import FlowPolicy
from aloe_policy.runtime import Models, load_models

if TYPE_CHECKING:
    from aloe_critic.actor import Actor


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
    critic_gamma: float | None = None  # and its discount a control step, if known
    warm_start: Callable[[], FlowPolicy] | None = None  # loads the policy cloned before any improvement
    server: Actor | None = None  # a policy behind a server, to improve in place of `policy`
    notes: list[str] = field(default_factory=list)  # what whoever asked for the run should know of it
    loop: Loop = field(default=None)  # type: ignore[assignment]  # runs the optimisations; None = one that saves nothing

    def __post_init__(self) -> None:
        self.loop = self.loop or Loop(self.progress)
        self.device = device_of(self.hyper)

    def start_from(self, models: Models) -> None:
        """Improve the policy of a loaded checkpoint, and go on with its critic."""
        self.policy = models.policy.to(self.device)
        self.critic = models.critic.to(self.device) if models.critic is not None else None
        scale = models.config.get("reward_scale")
        self.reward_scale = (float(scale[0]), float(scale[1])) if scale else None  # type: ignore[index]
        self.critic_gamma = gamma_of(models.config)
        self.warm_start = lambda: load_warm_start(models.directory, self.contract)

    def needs_policy(self, method: str) -> FlowPolicy:
        """Return the policy to improve; AloeError if there is none, or one that this method cannot continue."""
        if self.policy is None:
            raise AloeError(
                f"Method {method} improves a policy: train one with --method bc first, or name it with --init."
            )
        config = self.policy.config
        if config.head != "flow" or config.indicator:
            kind = "an indicator (recap)" if config.indicator else "a Gaussian head (hil_serl)"
            raise AloeError(
                f"Method {method} continues a plain flow policy, but this one has {kind}; name another --init."
            )
        if self.hyper.prefix and not config.prefix:
            raise AloeError(
                "prefix = True: the policy to go on from was cloned without; clone one with --method bc and no --init."
            )
        return self.policy

    def needs_warm_start(self, method: str) -> FlowPolicy:
        """Return a copy of the policy before any improvement; AloeError if it is not known or not there."""
        if self.warm_start is None:
            raise AloeError(f"Method {method} starts from the cloned policy: train it with --method bc first.")
        return self.warm_start().to(self.device)

    def policy_to_refit(self, method: str) -> FlowPolicy:
        """Return the weights that an improvement starts from, as `refit_from` says."""
        policy = self.needs_policy(method)
        return policy if self.hyper.refit_from == "current" else self.needs_warm_start(method)


@dataclass
class Learned:
    """The result of a training run."""

    policy: Judged  # a FlowPolicy, unless it is behind a server
    critic: ChunkCritic | None
    candidates: int  # chunks to sample on the robot
    reward_scale: tuple[float, float] | None = None
    metrics: dict[str, object] = field(default_factory=dict)

    def cpu(self) -> Learned:
        """Bring the networks back to the CPU, where they are judged and saved."""
        for network in (self.policy, self.critic):
            if isinstance(network, nn.Module):
                network.cpu()
        return self


def gamma_of(config: Mapping[str, object]) -> float | None:
    """Return the discount that a checkpoint with this configuration was trained with, None if it does not say."""
    hyper = config.get("hyper")
    gamma = hyper.get("gamma") if isinstance(hyper, Mapping) else None
    return float(gamma) if isinstance(gamma, (int, float)) else None


def load_warm_start(directory: Path, contract: RobotContract) -> FlowPolicy:
    """Load the nearest ancestor of a checkpoint that was cloned, itself included; without one, the first of its line.

    Ancestors are looked for beside it. AloeError names the one that is missing.
    """
    manifest = read_manifest(directory)
    seen = {manifest.version}
    while manifest.method != "bc" and manifest.parent:
        parent = directory.parent / manifest.parent
        if not parent.is_dir() or manifest.parent in seen:
            raise AloeError(
                f"{directory}: its line begins with {manifest.parent!r}, which is not in {directory.parent}."
            )
        directory, manifest = parent, read_manifest(parent)
        seen.add(manifest.version)
    return load_models(directory, contract).policy

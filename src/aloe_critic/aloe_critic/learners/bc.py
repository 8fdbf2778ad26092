"""Behaviour cloning of successful demonstrations, images to chunks, end to end."""

from __future__ import annotations

from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.pacing import longest_delay
from aloe_critic.features import compute_features
from aloe_critic.hyper import Hyper
from aloe_critic.imitate import STATE_FLOOR, Examples, fit, fit_head
from aloe_critic.job import Job, Learned
from aloe_critic.learners.select import demonstrations
from aloe_critic.replay import Replay, Windows
from aloe_critic.replay.objects import ObjectReplay
from aloe_policy.config import FlowConfig
from aloe_policy.model import FlowPolicy


def learn(job: Job) -> Learned:
    """Clone the person's windows of successful episodes that no policy drove in.

    Goes on from `job.policy` if given, or from the policy behind the job's server.
    """
    windows = job.replay.windows(gamma=job.hyper.gamma, max_length=1, failure_cost=1)
    rows = demonstrations(job.replay, windows).nonzero().squeeze(1)
    if len(rows) == 0:
        raise AloeError("Behaviour cloning: no successful demonstration among the bags; record or label some.")
    if job.server is not None:
        _, loss = job.server.improve(Examples(windows, rows))
        return Learned(job.server.policy, None, 1, None, {"bc_loss": loss, "bc_windows": len(rows)})
    hyper = job.hyper
    policy = job.needs_policy("bc") if job.policy else new_policy(job.contract, hyper, job.replay, windows, rows)
    policy.to(job.device)
    examples = Examples(windows, rows)
    fit(policy, job, examples, steps=hyper.bc_steps, lr=hyper.bc_lr, phase="cloning")
    z = compute_features(policy, job.replay)
    loss = fit_head(policy, job, examples, z, steps=hyper.bc_head_steps, lr=hyper.head_lr, phase="cloning, head")
    return Learned(policy, None, 1, None, {"bc_loss": loss, "bc_windows": len(rows)})


def new_policy(contract: RobotContract, hyper: Hyper, replay: Replay, windows: Windows, rows: Tensor) -> FlowPolicy:
    """Return an untrained policy with the normalisation of these windows."""
    sees: dict[str, object] = {"keypoints": hyper.keypoints}
    objects = replay.objects() if isinstance(replay, ObjectReplay) else None
    if objects is not None:
        sees = {"cameras": (), "objects": objects.shape[1]}
    if hyper.prefix:
        sees["prefix"] = longest_delay(contract.chunk.horizon)
    policy = FlowPolicy(FlowConfig.for_contract(contract, width_head=hyper.width_head, **sees))
    if objects is not None:
        policy.objects_mean.copy_(objects.mean(0))
        policy.objects_std.copy_(objects.std(0).clamp_min(STATE_FLOOR))
    state = replay.state()[windows.obs[rows]]
    policy.state_mean.copy_(state.mean(0))
    policy.state_std.copy_(state.std(0).clamp_min(STATE_FLOOR))
    knots = policy.encode_actions(windows.chunk[rows], state)  # buffers are 0 and 1 still: raw relative knots
    policy.knot_mean.copy_(knots.mean(0))
    # A floor well above the noise of an arm at rest, or its jitter would count as much as the task.
    policy.knot_std.copy_(knots.std(0).clamp_min(0.02))
    small = [i for i, j in enumerate(contract.joints) if j.unit == "m"]
    policy.knot_std[:, small] = knots.std(0)[:, small].clamp_min(0.002)
    return policy

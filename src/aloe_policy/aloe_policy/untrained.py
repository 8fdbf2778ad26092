"""A checkpoint with random weights: for tests and benchmarks of everything around a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from aloe_core.checkpoint import write_checkpoint
from aloe_core.contract import RobotContract
from aloe_policy.config import FlowConfig
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.model import FlowPolicy
from aloe_policy.runtime import CRITIC_FILE, POLICY_FILE

_SMALL_POLICY = {"keypoints": 4, "channels": (4, 8, 8), "width_head": 32, "blocks_head": 1, "flow_steps": 2}
_SMALL_CRITIC = {"heads": 2, "width": 16}


def write_untrained(
    root: Path,
    contract: RobotContract,
    version: str = "v0001-untrained",
    *,
    small: bool = False,
    near: float = 0.05,
    critic: bool = True,
) -> Path:
    """Write root/version, of the usual size or `small`; return its directory.

    Its chunks differ and stay about `near` (rad or m, standard deviation) to the state they start from, grippers to
    the middle of their range.
    """
    torch.manual_seed(0)
    policy = FlowPolicy(FlowConfig.for_contract(contract, **(_SMALL_POLICY if small else {})))
    policy.knot_std.fill_(near)
    grippers = list(policy.config.gripper_dims)
    middle = torch.tensor((contract.lower + contract.upper) / 2, dtype=torch.float32)
    policy.knot_mean[:, grippers] = middle[grippers]
    files = {POLICY_FILE: save(policy.state_dict())}
    config: dict[str, Any] = {"policy": policy.config.model_dump(mode="json")}
    if critic:
        shape = {
            "feature_dim": policy.feature_dim,
            "action_dim": contract.action_dim,
            "steps": contract.chunk.execute,
        }
        judge = ChunkCritic(CriticConfig.model_validate(shape | (_SMALL_CRITIC if small else {})))
        files[CRITIC_FILE] = save(judge.state_dict())
        config["critic"] = judge.config.model_dump(mode="json")
    return write_checkpoint(
        root,
        version,
        files,
        config=config,
        norm={},
        contract_hash=contract.hash,
        step=1,
        parent="",
        method="untrained",
        metrics={},
    )

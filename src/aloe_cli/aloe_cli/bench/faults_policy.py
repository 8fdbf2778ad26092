"""A policy with random weights: small, quick, and near the state each of its chunks starts from."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from aloe_core.checkpoint import write_checkpoint
from aloe_core.contract import RobotContract
from aloe_policy.config import FlowConfig
from aloe_policy.model import FlowPolicy
from aloe_policy.runtime import POLICY_FILE


def write_random(root: Path, contract: RobotContract) -> None:
    """Write a checkpoint without a critic into `root`."""
    torch.manual_seed(0)
    config = FlowConfig.for_contract(
        contract, keypoints=4, channels=(4, 8, 8), width_head=32, blocks_head=1, flow_steps=2
    )
    policy = FlowPolicy(config)
    policy.knot_std.fill_(0.05)
    write_checkpoint(
        root,
        "v0001-random",
        {POLICY_FILE: save(policy.state_dict())},
        config={"policy": config.model_dump(mode="json")},
        norm={},
        contract_hash=contract.hash,
        step=1,
        parent="",
        method="random",
        metrics={},
    )

"""A checkpoint of the native policy with random weights: small, quick, and different in every chunk."""

from pathlib import Path

import torch
from safetensors.torch import save

from aloe_core.checkpoint import write_checkpoint
from aloe_core.contract import RobotContract
from aloe_policy.config import FlowConfig
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.model import FlowPolicy
from aloe_policy.runtime import CRITIC_FILE, POLICY_FILE


def write_tiny(root: Path, contract: RobotContract, version: str = "v0001-tiny") -> Path:
    """Write root/version; its chunks stay near the state they start from."""
    torch.manual_seed(0)
    policy = FlowPolicy(
        FlowConfig.for_contract(contract, keypoints=4, channels=(4, 8, 8), width_head=32, blocks_head=1, flow_steps=2)
    )
    policy.knot_std.fill_(0.05)
    critic = ChunkCritic(
        CriticConfig(
            feature_dim=policy.feature_dim,
            action_dim=contract.action_dim,
            steps=contract.chunk.execute,
            heads=2,
            width=16,
        )
    )
    return write_checkpoint(
        root,
        version,
        {POLICY_FILE: save(policy.state_dict()), CRITIC_FILE: save(critic.state_dict())},
        config={"policy": policy.config.model_dump(mode="json"), "critic": critic.config.model_dump(mode="json")},
        norm={},
        contract_hash=contract.hash,
        step=1,
        parent="",
        method="tiny",
        metrics={},
    )

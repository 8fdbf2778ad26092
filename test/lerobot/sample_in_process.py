"""Several chunks of one observation: sample_in_process.py POLICY...; in LeRobot's environment. Prints a JSON object.

For each: distances between ours and what LeRobot's own predict_action_chunk makes of the same noise, and how often what
is seen is encoded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aloe_policy.remote.lerobot import sampling
from aloe_policy.remote.lerobot.chunks import LeRobotChunkPolicy
from aloe_policy.remote.lerobot.loading import load

ROWS, N = 3, 4


def observations() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    images = {f"observation/{name}": rng.integers(0, 255, (ROWS, 64, 64, 3), np.uint8) for name in ("front", "wrist")}
    state = rng.normal([0.5, -1.0], 1.0, (ROWS, 2)).astype(np.float32)
    return {**images, "observation/state": state, "prompt": ["sort the blocks", "pick up the red cube", "dry run"]}


def noise(policy: LeRobotChunkPolicy) -> torch.Tensor:
    """What the same seed gives to ours, [ROWS, N, H, width]."""
    config = policy.model.config
    torch.manual_seed(3)
    drawn = policy.model.model.sample_noise((ROWS * N, config.chunk_size, config.max_action_dim), "cpu")
    return drawn.unflatten(0, (ROWS, N))


def sampled(policy: LeRobotChunkPolicy, obs: dict[str, Any], n: int = N) -> torch.Tensor:
    torch.manual_seed(3)
    return policy.sample(obs, n)


def by_lerobot(policy: LeRobotChunkPolicy, obs: dict[str, Any]) -> torch.Tensor:
    """The same chunks, each by a call of its own for one observation and one noise."""
    rows = []
    for i, given in enumerate(noise(policy)):
        one = policy.inputs.batch({key: value[i : i + 1] for key, value in obs.items()})
        for single in given:
            policy.model.reset()
            batch = policy.policy.before({**one})
            rows.append(policy.policy.after(policy.model.predict_action_chunk(batch, noise=single[None])).float())
    return torch.cat(rows).unflatten(0, (ROWS, N))


def one_with_features(policy: LeRobotChunkPolicy, obs: dict[str, Any]) -> float:
    """Distance of the one chunk from an encoding that is shared with features, from LeRobot's own call."""
    batch = policy.policy.before(policy.inputs.batch(obs))
    torch.manual_seed(3)
    chunks = sampling.sample(policy.policy, batch, 1, sampling.encode(policy.policy, batch))
    return float((chunks - sampled(policy, obs, 1)).abs().max())


def encoded(policy: LeRobotChunkPolicy, obs: dict[str, Any]) -> int:
    """Images that go through the vision tower for N chunks of each observation."""
    rows: list[int] = []
    (tower,) = (module for name, module in policy.model.named_modules() if name.endswith("patch_embedding"))
    hook = tower.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    try:
        sampled(policy, obs)
    finally:
        hook.remove()
    return sum(rows)


def facts(folder: Path) -> dict[str, Any]:
    policy = LeRobotChunkPolicy(load(folder, "cpu"))
    obs = observations()
    chunks = sampled(policy, obs)
    changes = {
        "front": {"observation/front": 255 - obs["observation/front"]},
        "wrist": {"observation/wrist": 255 - obs["observation/wrist"]},
        "state": {"observation/state": obs["observation/state"] + 0.3},
        "prompt": {"prompt": ["pick up"] * ROWS},
    }
    moved = {}
    for key, change in changes.items():
        moved[key] = float((sampled(policy, obs | change) - chunks).abs().amax((1, 2, 3)).min())
    return {
        "shape": list(chunks.shape),
        "finite": bool(chunks.isfinite().all()),
        "from_lerobots": float((by_lerobot(policy, obs) - chunks).abs().max()),
        "one_with_features": one_with_features(policy, obs),
        "apart": float((chunks[:, 1:] - chunks[:, :1]).abs().amax((2, 3)).min()),
        "moved": moved,
        "images_encoded": encoded(policy, obs),
        "features": policy.spec.feature_dim,
    }


if __name__ == "__main__":
    print(json.dumps({Path(folder).name: facts(Path(folder)) for folder in sys.argv[1:]}))

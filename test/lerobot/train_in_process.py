"""What training does to a policy: train_in_process.py POLICY DIR; in LeRobot's environment. Prints a JSON object.

Facts that a server would hide: whose loss it is, which weights move, what merging and saving change.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aloe_core.checkpoint import write_checkpoint
from aloe_core.errors import AloeError
from aloe_critic.remote.lerobot.trainee import LeRobotTrainee
from aloe_policy.remote.lerobot.loading import load

ROWS, HORIZON, JOINTS = 4, 12, 2


def examples() -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    images = {f"observation/{name}": rng.integers(0, 255, (ROWS, 64, 64, 3), np.uint8) for name in ("front", "wrist")}
    state = rng.normal([0.5, -1.0], 1.0, (ROWS, JOINTS)).astype(np.float32)
    chunks = torch.from_numpy(rng.normal([0.3, -0.3], 0.1, (ROWS, HORIZON, JOINTS)).astype(np.float32))
    prompts = ["sort the blocks", "pick up the red cube", "sort", "dry run"]
    obs = {**images, "observation/state": state, "prompt": prompts}
    return obs, chunks, torch.full((ROWS,), HORIZON)


def own_loss(trainee: LeRobotTrainee, obs: dict[str, Any], chunks: torch.Tensor, length: torch.Tensor) -> float:
    """What LeRobot's forward makes of the same examples, with processors of its own."""
    batch = trainee.policy.before(trainee.inputs.batch(obs) | {"action": chunks})
    batch["action_is_pad"] = torch.arange(HORIZON) >= length[:, None]
    torch.manual_seed(5)
    return trainee.model(batch)[0].item()


def fit(trainee: LeRobotTrainee, steps: int) -> None:
    obs, chunks, length = examples()
    optimizer = trainee.optimizer()
    trainee.train(True)
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    for step in range(steps):
        torch.manual_seed(step)
        loss = trainee.losses(obs, chunks, length).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def judged(trainee: LeRobotTrainee) -> float:
    """Loss of the examples over many draws of noise and time, without the KL term of ACT's VAE, which cannot fall."""
    trainee.train(False)
    torch.manual_seed(9)
    return float(np.mean([trainee.losses(*examples()).mean().item() for _ in range(30)]))


def features(trainee: LeRobotTrainee) -> dict[str, Any]:
    obs, _, _ = examples()
    z = trainee.features(obs)
    alone = torch.cat([trainee.features({key: value[i : i + 1] for key, value in obs.items()}) for i in range(ROWS)])
    other = trainee.features(obs | {"observation/wrist": 255 - obs["observation/wrist"]})
    asked = trainee.features(obs | {"prompt": ["dry run"] * ROWS})
    return {
        "shape": list(z.shape),
        "promised": trainee.spec.feature_dim,
        "again": bool(torch.equal(trainee.features(obs), z)),
        "alone": float((alone - z).abs().max()),
        "camera": float((other - z).abs().max()),
        "prompt": float((asked[:3] - z[:3]).abs().max()),
    }


def loss(trainee: LeRobotTrainee) -> dict[str, Any]:
    """Ours and LeRobot's in both modes, whole chunks; and that steps past the length do not count."""
    obs, chunks, length = examples()
    found: dict[str, Any] = {}
    for mode in (False, True):
        trainee.train(mode)
        torch.manual_seed(5)
        mine = trainee.flow_loss(obs, chunks, torch.ones(ROWS)).item()
        found["train" if mode else "eval"] = [mine, own_loss(trainee, obs, chunks, length)]
    trainee.train(False)
    short, spoiled = torch.tensor([12, 5, 3, 1]), chunks.clone()
    for row, steps in enumerate(short):
        spoiled[row, steps:] += 1
    pair = []
    for given in (chunks, spoiled):
        torch.manual_seed(5)
        pair.append(trainee.losses(obs, given, short))
    found["past_the_length"] = float((pair[0] - pair[1]).abs().max())
    torch.manual_seed(5)
    found["weighted"] = [
        trainee.flow_loss(obs, chunks, torch.tensor([0.0, 0.0, 0.0, 4.0])).item(),
        seeded(trainee, obs, chunks, length)[3].item(),
    ]
    return found


def seeded(trainee: LeRobotTrainee, obs: dict[str, Any], chunks: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(5)
    return trainee.losses(obs, chunks, length)


def sampled(trainee: LeRobotTrainee) -> torch.Tensor:
    obs, _, _ = examples()
    torch.manual_seed(7)
    return trainee.sample(obs, 3)


def trained(folder: Path, work: Path, trains: str) -> dict[str, Any]:
    """Fit, and compare what moved, what merging changes, and what comes back from a saved version."""
    trainee = LeRobotTrainee(load(folder, "cpu"), trains, 4)
    start = {name: tensor.clone() for name, tensor in trainee.model.state_dict().items()}
    first, z = sampled(trainee), trainee.features(examples()[0])
    before = judged(trainee)
    fit(trainee, 80)
    end = trainee.model.state_dict()
    moved = sorted(name for name in start if not torch.equal(start[name], end[name]))
    last = sampled(trainee)
    (work / "scratch").mkdir(parents=True)
    files, config = trainee.files(work / "scratch")
    facts = {"contract_hash": "0" * 16, "step": 1, "parent": "", "method": "aloe", "metrics": {}}
    path = write_checkpoint(work / "versions", "v0001-aloe", files, config=config, norm={}, **facts)
    again = load(path, "cpu")
    base = load(folder, "cpu").model.state_dict()
    changed = sorted(name for name, tensor in again.model.state_dict().items() if not torch.equal(tensor, base[name]))
    back = LeRobotTrainee(again, "expert", 1)
    with (path / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        byte = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([byte[0] ^ 1]))
    try:
        load(path, "cpu")
        torn = "nothing"
    except AloeError as error:
        torn = str(error)
    return {
        "moved": moved,
        "weights": sum(weight.numel() for weight in trainee.weights.values()),
        "losses": [before, judged(trainee)],
        "features_moved": float((trainee.features(examples()[0]) - z).abs().max()),
        "chunks_moved": float((last - first).abs().max()),
        "chunks_after_loading": float((sampled(back) - last).abs().max()),
        "saved_as_other": changed,
        "version": again.version,
        "torn": torn,
    }


def main(folder: Path, work: Path) -> None:
    trainee = LeRobotTrainee(load(folder, "cpu"), "expert", 1)
    found = {"features": features(trainee), "loss": loss(trainee)}
    for trains in ("expert", "lora"):
        found[trains] = trained(folder, work / trains, trains)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

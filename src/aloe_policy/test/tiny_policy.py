"""A small robot and a small, real policy for tests: chunks of 8 steps that ramp from the state by a stored slope."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aloe_core.checkpoint import write_checkpoint
from aloe_core.contract import RobotContract
from aloe_core.types import Chunk, Inference, Observation, Value

CONTRACT = {
    "format": 1,
    "name": "tiny",
    "cameras": [
        {"name": n, "topic": f"cameras/{n}", "width": 32, "height": 24, "rate_hz": 10, "frame_id": f"{n}_optical"}
        for n in ("front", "wrist")
    ],
    "joints": [
        {"name": n, "group": "arm", "unit": "rad", "min": -2, "max": 2, "velocity": 3, "acceleration": 60}
        for n in ("shoulder", "elbow")
    ],
    "control": {
        "rate_hz": 50,
        "joint_states_topic": "joint_states",
        "command_kind": "joint_trajectory",
        "command_topic": "command/joint_trajectory",
    },
    "chunk": {"horizon": 8, "execute": 4},
    "takeover": {
        "joy_topic": "joy",
        "leader_topic": "leader/joint_states",
        "deadman_button": 4,
        "estop_button": 6,
        "success_button": 0,
        "failure_button": 1,
        "alignment_tolerance": 0.35,
    },
    "staleness": {"joint_states": 0.1, "camera": 0.3, "chunk": 1.5, "teleop": 0.1},
}


def tiny_contract(**changes: object) -> RobotContract:
    return RobotContract.model_validate(CONTRACT | changes)


@dataclass
class TinyRuntime:
    """Ramps by `slope` rad a step, after what is frozen.

    The value is the brightness of `front`, so that tests can tell frames apart.
    """

    version: str
    slope: float
    contract: RobotContract
    seconds: float = 0.0

    def infer(self, obs: Observation) -> Inference:
        start = time.perf_counter()
        if self.seconds:
            time.sleep(self.seconds)
        horizon = self.contract.chunk.horizon
        ramp = obs.state[None] + self.slope * np.arange(1, horizon + 1, dtype=np.float32)[:, None]
        frozen = obs.plan.frozen if obs.plan is not None else 0
        if obs.plan is not None:
            ramp[:frozen] = obs.plan.actions[:frozen]
        seen = float(obs.images["front"].mean()) / 255
        chunk = Chunk(
            chunk_id=f"{self.version}/{obs.seed}/{obs.chunk_number}/{obs.stamp}",
            stamp=obs.stamp,
            dt=self.contract.dt,
            actions=ramp.astype(np.float32),
            execute=self.contract.chunk.execute,
            policy_version=self.version,
            frozen_steps=frozen,
        )
        value = Value(q_min=-seen, q_mean=-seen, q_std=0.1, v=-seen - 0.1, critic_version=self.version)
        return Inference(chunk, value, candidates=2, latency=time.perf_counter() - start)


def load_tiny(directory: Path, sha256: str | None = None) -> TinyRuntime:
    config = json.loads((Path(directory) / "config.json").read_text())
    version = json.loads((Path(directory) / "manifest.json").read_text())["version"]
    contract = tiny_contract()
    return TinyRuntime(version, float(config["slope"]), contract, float(config.get("seconds", 0)))


def write_tiny(
    root: Path,
    version: str,
    slope: object = 0.01,
    seconds: float = 0.0,
    weights: bytes = b"tiny",
    **changes: object,
) -> Path:
    arguments: dict = {
        "config": {"slope": slope, "seconds": seconds},
        "norm": {},
        "contract_hash": tiny_contract().hash,
        "step": 1,
        "parent": "",
        "method": "tiny",
        "metrics": {},
    }
    return write_checkpoint(root, version, {"model.safetensors": weights}, **(arguments | changes))

"""Tiny seeded episodes with a learnable link from image to action; no simulator, no ROS."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Frames, Outcome, Source


def small_contract(horizon: int = 10, execute: int = 5) -> RobotContract:
    """One camera, two joints, 10 Hz frames, 50 Hz control."""
    joint = {"group": "arm", "unit": "rad", "min": -3.0, "max": 3.0, "velocity": 9.0, "acceleration": 900.0}
    return RobotContract.model_validate(
        {
            "format": 1,
            "name": "small",
            "cameras": [
                {"name": "top", "topic": "cameras/top", "width": 32, "height": 32, "rate_hz": 10, "frame_id": "top"}
            ],
            "joints": [{"name": "a", **joint}, {"name": "b", **joint}],
            "control": {
                "rate_hz": 50,
                "joint_states_topic": "joint_states",
                "command_kind": "joint_trajectory",
                "command_topic": "command",
            },
            "chunk": {"horizon": horizon, "execute": execute},
            "takeover": {
                "joy_topic": "joy",
                "leader_topic": "leader",
                "deadman_button": 0,
                "estop_button": 1,
                "success_button": 2,
                "failure_button": 3,
                "alignment_tolerance": 0.3,
            },
            "staleness": {"joint_states": 0.1, "camera": 0.3, "chunk": 1.0, "teleop": 0.1},
        }
    )


def picture(target: np.ndarray) -> bytes:
    """JPEG with a dot at target [2] in [-1, 1]."""
    image = np.full((32, 32, 3), 30, np.uint8)
    centre = tuple(int(v) for v in (16 + 12 * target).round())
    cv2.circle(image, centre, 3, (40, 40, 240), -1)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def reach_episode(
    contract: RobotContract,
    seed: int,
    *,
    source: Source = Source.HUMAN,
    outcome: Outcome = Outcome.SUCCESS,
    steps: int = 40,
    noise: float = 0.0,
) -> EpisodeData:
    """Both joints move at constant speed from 0 to the place of the dot; with `noise` they miss it."""
    rng = np.random.default_rng(seed)
    target = rng.uniform(-1, 1, 2)
    reached = target + noise * rng.standard_normal(2)
    dt = contract.dt
    state = (np.linspace(0, 1, steps + 1)[:, None] * reached).astype(np.float32)
    stamps = (np.arange(steps + 1) * round(dt * 1e9)).astype(np.int64)
    frame_stamps = stamps[::5]
    jpeg = picture(target)
    ids = tuple(f"c{i}" for i in range(-(-steps // contract.chunk.execute)))
    policy = source == Source.POLICY
    number = np.arange(steps) // contract.chunk.execute if policy else np.full(steps, -1)
    return EpisodeData(
        episode_id=f"episode-{seed}",
        task="reach",
        instruction="touch the dot",
        seed=seed,
        outcome=outcome,
        end="terminated" if outcome in (Outcome.SUCCESS, Outcome.FAILURE) else "truncated",
        contract_hash=contract.hash,
        dt=dt,
        stamps=stamps,
        state=state,
        requested=state[1:].copy(),
        executed=state[1:].copy(),
        source=np.full(steps, int(source), np.uint8),
        chunk=number.astype(np.int32),
        chunk_index=(np.arange(steps) % contract.chunk.execute if policy else np.full(steps, -1)).astype(np.int32),
        frames={"top": Frames(frame_stamps, (jpeg,) * len(frame_stamps))},
        chunk_ids=ids if policy else (),
        policy_versions=("v0",) * len(ids) if policy else (),
    )


def mixed_episode(contract: RobotContract, seed: int, *, takeover: int = 20, **changes) -> EpisodeData:
    """A policy's episode in which a person drives from step `takeover` on."""
    episode = reach_episode(contract, seed, source=Source.POLICY, **changes)
    source, chunk, index = episode.source.copy(), episode.chunk.copy(), episode.chunk_index.copy()
    source[takeover:], chunk[takeover:], index[takeover:] = int(Source.HUMAN), -1, -1
    return replace(episode, source=source, chunk=chunk, chunk_index=index)

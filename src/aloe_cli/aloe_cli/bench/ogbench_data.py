"""Play data of OGBench's cube environments, made by its scripted oracle instead of being downloaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aloe_critic.flat.data import Episodes

EPISODE_STEPS = 1001  # one more than transitions, as in the released data sets
SHARD = 10  # episodes a file; what is lost when the run is killed
REACHED = 0.04  # m between a cube and its goal that still counts as success
# Chance that the oracle puts a cube on another one, drawn anew in every episode; as for the released data sets.
_STACKING = {"single": (0.0, 0.0), "double": (0.0, 0.25), "triple": (0.05, 0.35)}
_CUBES_START = 14  # entry of qpos where the cubes begin: arm and gripper come first
_CUBE_SIZE = 7  # position and quaternion


def play(cubes: str, episodes: int, folder: Path, advance: Callable[[int], None] = lambda made: None) -> Episodes:
    """Return `episodes` play episodes of cube-`cubes`, of `folder` as far as they are there.

    `advance` gets how many there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for index in range((episodes + SHARD - 1) // SHARD):
        path = folder / f"{cubes}-{index:04d}.npz"
        if not path.exists():
            _save(path, _collect(cubes, SHARD, seed=index))
        with np.load(path) as arrays:
            shards.append({name: arrays[name] for name in arrays.files})
        advance(min((index + 1) * SHARD, episodes))
    joined = {name: np.concatenate([shard[name] for shard in shards])[:episodes] for name in shards[0]}
    return Episodes(joined["observations"], joined["actions"], joined["cubes"])


def split(plays: Episodes, first: int) -> tuple[Episodes, Episodes]:
    """Return the `first` episodes and the others."""
    parts = slice(None, first), slice(first, None)
    learned, held = (Episodes(**{name: values[part] for name, values in vars(plays).items()}) for part in parts)
    return learned, held


def rewards(cubes: np.ndarray, goals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reward minus one per misplaced cube, and whether none is: cubes [..., n, 3] and goals [n, 3] in m."""
    reached = np.linalg.norm(cubes - goals, axis=-1) <= REACHED
    return (reached.sum(-1) - reached.shape[-1]).astype(np.float32), reached.all(-1)


def make(name: str, **options: object) -> Any:
    """Return an environment of OGBench."""
    import gymnasium
    import ogbench.manipspace  # noqa: F401  registers the environments

    # Its environments make the space of their actions anew whenever it is asked for, with a warning each time.
    warnings.filterwarnings("ignore", message=".*precision lowered by casting to float32.*")
    return gymnasium.make(name, disable_env_checker=True, **options)


def _collect(cubes: str, episodes: int, seed: int) -> dict[str, np.ndarray]:
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

    env = make(f"cube-{cubes}-v0", terminate_at_goal=False, mode="data_collection", max_episode_steps=EPISODE_STEPS)
    oracle = CubePlanOracle(env=env, noise=0.1, noise_smoothing=0.5)
    np.random.seed(seed)  # the oracle draws from NumPy's global state
    made = [_episode(env, oracle, cubes, seed * SHARD + i) for i in range(episodes)]
    env.close()
    return {name: np.stack([episode[name] for episode in made]) for name in made[0]}


def _episode(env: Any, oracle: Any, cubes: str, seed: int) -> dict[str, np.ndarray]:
    observation, info = env.reset(seed=seed)
    stacking = np.random.uniform(*_STACKING[cubes])
    oracle.reset(observation, info)
    rows: dict[str, list[np.ndarray]] = {"observations": [], "actions": [], "cubes": []}
    done = False
    while not done:
        action = np.clip(np.asarray(oracle.select_action(observation, info)), -1, 1)
        after, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        if oracle.done:  # the next cube, and where to put it
            oracle.reset(*env.unwrapped.set_new_target(p_stack=stacking))
        rows["observations"].append(observation)
        rows["actions"].append(action)
        rows["cubes"].append(info["prev_qpos"][_CUBES_START:].reshape(-1, _CUBE_SIZE)[:, :3])
        observation = after
    return {name: np.asarray(values, np.float32) for name, values in rows.items()}


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    temporary = path.with_name(f".{path.name}")
    np.savez(temporary, **arrays)  # the name ends in .npz, so NumPy appends nothing
    os.replace(temporary, path)

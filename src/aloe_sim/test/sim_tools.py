"""Shared by the simulator's tests: contract, a policy that plans with the expert, jolts."""

from pathlib import Path

import numpy as np

from aloe_core.contract import load_contract
from aloe_core.safety import SafetyFilter
from aloe_core.types import Chunk, Inference, Observation
from aloe_sim.expert import Expert, Skill
from aloe_sim.station import Station
from aloe_sim.tasks.sorting.one_bin import HELD

ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "config/robots/aloha_sim.yaml"
ROBOT = load_contract(CONTRACT)


class Planner:
    """A policy that looks at the true state and sends what the expert would do, as skilled as asked for."""

    version = "planner"

    def __init__(self, station: Station, skill: Skill) -> None:
        self._station, self._skill = station, skill
        self._copy = Station(station.contract, station.task_name, station.level, render=False)
        self.seen: list[Observation] = []

    def infer(self, obs: Observation) -> Inference:
        self.seen.append(obs)
        self._copy.restore(self._station.snapshot())
        expert = Expert(self._copy, self._skill, obs.seed * 100 + obs.chunk_number)
        rows = []
        for _ in range(ROBOT.chunk.horizon):
            rows.append(expert.act())
            self._copy.step(rows[-1])
        return Inference(chunk(obs, np.array(rows)), None, 1, 0.0)


class Still:
    """A policy that keeps the arms where they are."""

    version = "still"

    def infer(self, obs: Observation) -> Inference:
        return Inference(chunk(obs, np.tile(obs.state, (ROBOT.chunk.horizon, 1))), None, 1, 0.0)


def chunk(obs: Observation, rows: np.ndarray) -> Chunk:
    name = f"{obs.seed}/{obs.chunk_number}"
    return Chunk(name, obs.stamp, ROBOT.dt, rows.astype(np.float32), ROBOT.chunk.execute, "v1")


def drive(station: Station, seconds: float, skill: Skill | None = None, seed: int = 0) -> None:
    """Let the expert work for `seconds` at most, or until the task is decided."""
    expert = Expert(station, skill, seed)
    for _ in range(round(seconds / ROBOT.dt)):
        if station.success or station.failure:
            return
        station.step(expert.act())


def jolt(station: Station, rng: np.random.Generator, seconds: float) -> None:
    """Send the arms and fingers somewhere random near where they are."""
    spread = np.tile([0.4, 0.3, 0.3, 0.2, 0.3, 0.4, 0.02], 2)
    target = station.joint_positions() + rng.normal(size=14) * spread
    safety = SafetyFilter(ROBOT)
    motion = safety.rest(station.joint_positions())
    for _ in range(round(seconds / ROBOT.dt)):
        motion, _ = safety.apply(target, motion)
        station.step(motion.position)


def put(station: Station, item: str, x: float, y: float, yaw: float = 0.0) -> None:
    """Stand a block at a place on the table; it was lifted there by a hand."""
    if station.level in ("easy", "two"):
        station.data.userdata[station.task.items.index(item)] = HELD
    joint = station.data.joint(item)
    joint.qpos[:] = [x, y, 0.02, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
    joint.qvel[:] = 0

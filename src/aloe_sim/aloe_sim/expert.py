"""A scripted expert: from any state of the scene, the next command of someone who knows the task.

What it does is decided anew at every tick from the scene alone (what is held, where the pads are), so it can be
engaged in the middle of anything; only the motion towards it is smoothed over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from aloe_sim.kinematics import ARMS, WRIST_ROTATE, inverse, nearest_reachable, wrist_for
from aloe_sim.station import HOME_GRIPPER, HOME_POINT, Station
from aloe_sim.tasks.base import Goal

SPEED = 0.24  # m/s of the pinch point
ACCELERATION = 2.0  # m/s^2
GAIN = 5.0  # 1/s, how sharply a target is approached
JOINT_SPEED = 2.0  # rad/s, at most, and never as fast as the contract allows
GRIP = 0.023  # m, finger command that squeezes a block
GRASP_HEIGHT = 0.020  # m, of the pinch point over the table
CLEARANCE = 0.06  # m above the grasp while not over the block
AT_ITEM = 0.012  # m, horizontal error at which the fingers may go down and close
AT_BIN = 0.03  # m
WOBBLE_TIME = 0.3  # s over which the hand's wandering is correlated


class Skill(BaseModel):
    """How well somebody does it; the default is flawless."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: float = Field(1.0, gt=0, le=2)  # of the natural speed
    speed_spread: float = Field(0.0, ge=0, lt=1)  # fraction, either way, drawn per engagement
    aim_spread: float = Field(0.0, ge=0)  # m, error of where the block is thought to be, drawn per attempt
    wobble: float = Field(0.0, ge=0)  # m, slow wandering of the hand


@dataclass(frozen=True)
class _Plan:
    """What a hand should do next."""

    point: np.ndarray  # [3], m, where the pinch point should go
    grip: float  # m, finger command
    wrist: float = WRIST_ROTATE  # rad, wrist_rotate command


class Expert:
    """Commands for `station` at every tick; smooth, and within the contract's velocity limits."""

    def __init__(self, station: Station, skill: Skill | None = None, seed: int = 0) -> None:
        self._station = station
        self._skill = skill = skill or Skill()
        self._rng = np.random.default_rng(seed)
        names = station.contract.joint_names
        self._columns = {a: np.array([i for i, n in enumerate(names) if n.startswith(f"{a}_")]) for a in ARMS}
        self._limit = np.minimum(0.95 * station.contract.velocity, JOINT_SPEED) * station.contract.dt
        self._pace = skill.speed * (1 + skill.speed_spread * self._rng.uniform(-1, 1))
        self._command = station.joint_positions().astype(np.float64)
        self._set_point = {arm: nearest_reachable(arm, station.pinch(arm)) for arm in ARMS}
        self._velocity = {arm: np.zeros(3) for arm in ARMS}
        self._drift = np.zeros(3)
        self._aim = self._draw_aim()

    def act(self) -> np.ndarray:
        """Return the next command, float64 [A], joint positions in contract order."""
        goals = self._station.task.goals(self._station)
        wanted = self._command.copy()
        for arm in ARMS:
            mine = goals[0] if goals and goals[0].arm == arm else None
            plan = self._intention(arm, mine)
            point = self._move(arm, plan.point, wander=mine is not None)
            wanted[self._columns[arm]] = [*inverse(arm, point, plan.wrist), plan.grip]
        self._command = self._command + np.clip(wanted - self._command, -self._limit, self._limit)
        return self._command.copy()

    # --- what to do --------------------------------------------------------------------------------------------

    def _intention(self, arm: str, goal: Goal | None) -> _Plan:
        here = self._station.pinch(arm)
        if goal is None:
            home = HOME_POINT * [1.0 if arm == "left" else -1.0, 1.0, 1.0]
            return _Plan(_rise_first(here, home, clear=home[2] - 0.05), HOME_GRIPPER)
        if self._station.touching(arm, goal.item) == 2:
            return self._deliver(arm, here, goal)
        return self._pick(arm, here, goal)

    def _pick(self, arm: str, here: np.ndarray, goal: Goal) -> _Plan:
        item = self._station.position(goal.item)
        aim = item + self._aim
        height = max(GRASP_HEIGHT, item[2])
        distance = float(np.hypot(*(aim[:2] - here[:2])))
        wrist = WRIST_ROTATE if goal.opening is None else wrist_for(arm, item, goal.opening)
        # A funnel: down only as far as the fingers are already around the block.
        share = float(np.clip((distance - AT_ITEM) / 0.03, 0, 1)) if self._upright(arm, wrist) else 1.0
        target = np.array([aim[0], aim[1], height + CLEARANCE * share])
        around = distance < AT_ITEM + 0.008 and here[2] < height + 0.010
        return _Plan(_rise_first(here, target, clear=target[2] - 0.015), GRIP if around else HOME_GRIPPER, wrist)

    def _deliver(self, arm: str, here: np.ndarray, goal: Goal) -> _Plan:
        target = np.array([*goal.target, goal.height])
        wrist = float(self._command[self._columns[arm][5]])  # as it was grasped
        if np.hypot(*(target[:2] - here[:2])) < AT_BIN:
            self._aim = self._draw_aim()
            return _Plan(target, HOME_GRIPPER, wrist)
        return _Plan(_rise_first(here, target, clear=goal.height - 0.005), GRIP, wrist)

    def _upright(self, arm: str, wrist: float) -> bool:
        """Whether the hand points down and is turned as wanted, within 0.2 rad."""
        _, shoulder, elbow, roll, angle, rotate, _ = self._station.joint_positions()[self._columns[arm]]
        tilt = shoulder + elbow + angle - np.pi / 2
        return max(abs(tilt), abs(roll), abs(rotate - wrist)) < 0.2

    # --- how to move -------------------------------------------------------------------------------------------

    def _move(self, arm: str, target: np.ndarray, wander: bool) -> np.ndarray:
        """Advance the arm's set point one tick and return it, [3], m."""
        dt = self._station.contract.dt
        point, velocity = self._set_point[arm], self._velocity[arm]
        if wander and self._skill.wobble:
            self._drift += -self._drift * dt / 0.3 + self._skill.wobble * np.sqrt(2 * dt / 0.3) * self._rng.normal(
                size=3
            )
            target = target + self._drift
        wish = (target - point) * GAIN * self._pace
        speed = float(np.linalg.norm(wish))
        wish *= min(1.0, SPEED * self._pace / max(speed, 1e-9))
        change = wish - velocity
        velocity = velocity + change * min(1.0, ACCELERATION * dt / max(float(np.linalg.norm(change)), 1e-9))
        point = nearest_reachable(arm, point + velocity * dt)
        self._set_point[arm], self._velocity[arm] = point, velocity
        return point

    def _draw_aim(self) -> np.ndarray:
        return np.append(self._rng.normal(size=2) * self._skill.aim_spread, 0.0)


def _rise_first(here: np.ndarray, target: np.ndarray, clear: float) -> np.ndarray:
    """Hold the horizontal motion back while the hand is below `clear`, m, and far from above the target."""
    share = float(np.clip((here[2] - clear + 0.03) / 0.03, 0, 1))
    return np.append(here[:2] + share * (target[:2] - here[:2]), target[2])

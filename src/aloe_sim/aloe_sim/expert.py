"""A scripted expert: from any state of the scene, the next command of someone who knows the task.

What the hands should do is the task's tactic; here it becomes motion: smooth, within limits, and as skilled as asked.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from aloe_sim.kinematics import Pose, angle_between, turn
from aloe_sim.skill import Skill
from aloe_sim.station import Station
from aloe_sim.tactics import go_home
from aloe_sim.tasks.base import Intention

__all__ = ["Expert", "Skill"]

SPEED = 0.24  # m/s of the pinch point
ACCELERATION = 2.0  # m/s^2
GAIN = 5.0  # 1/s, how sharply a target is approached
TURN_SPEED = 1.6  # rad/s of the hand
TURN_ACCELERATION = 20.0  # rad/s^2
JOINT_SPEED = 2.0  # rad/s, at most, and never as fast as the contract allows
WANDER_TIME = 0.3  # s over which the hand's wandering is correlated
PAUSE = (0.3, 1.0)  # s, shortest and longest hesitation
LEASH = 0.05  # m that the set point may be ahead of the hand


class Expert:
    """Commands for `station` at every tick; smooth, and within the contract's velocity limits."""

    def __init__(self, station: Station, skill: Skill | None = None, seed: int = 0) -> None:
        self._station = station
        self._skill = skill = skill or Skill()
        self._rng = np.random.default_rng(seed)
        names = station.contract.joint_names
        self._grippers = {a: names.index(station.robot.arm_joints(a)[-1]) for a in station.robot.arms}
        self._limit = np.minimum(0.95 * station.contract.velocity, JOINT_SPEED) * station.contract.dt
        self._pace = skill.speed * (1 + skill.speed_spread * self._rng.uniform(-1, 1))
        self._command = station.joint_positions().astype(np.float64)
        self._set = {arm: station.hand(arm) for arm in station.robot.arms}
        self._velocity = {arm: np.zeros(3) for arm in station.robot.arms}
        self._spin = dict.fromkeys(station.robot.arms, 0.0)  # rad/s
        self._drift = np.zeros(3)
        self._pause_until = 0.0
        self._aim = self._draw_aim()
        self._closing: set[str] = set()
        self._tactic = station.task.tactic()
        self._seen: deque[dict[str, Intention]] = deque(maxlen=1 + round(skill.delay / station.contract.dt))

    def act(self) -> np.ndarray:
        """Return the next command, float64 [A], joint positions in contract order."""
        station = self._station
        self._seen.append(self._tactic.intend(station, self._aim))
        intentions = self._seen[0]
        self._renew_aim(intentions)
        paused = self._paused()
        wanted = self._command.copy()
        for arm in station.robot.arms:
            intention = intentions.get(arm) or go_home(station, arm)
            self._move(arm, intention, paused)
            wanted[self._grippers[arm]] = intention.grip
        wanted = station.kinematics.reach(wanted, self._set)
        self._command = self._command + np.clip(wanted - self._command, -self._limit, self._limit)
        return self._command.copy()

    def _move(self, arm: str, intention: Intention, paused: bool) -> None:
        """Advance the arm's set point one tick."""
        dt = self._station.contract.dt
        now, velocity = self._set[arm], self._velocity[arm]
        target = intention.pose.point
        if intention.at_work and self._skill.wobble:
            noise = self._rng.normal(size=3)
            self._drift += -self._drift * dt / WANDER_TIME + self._skill.wobble * np.sqrt(2 * dt / WANDER_TIME) * noise
            target = target + self._drift
        pace = 0.0 if paused else self._pace * intention.pace
        wish = (target - now.point) * GAIN * pace
        wish *= min(1.0, SPEED * pace / max(float(np.linalg.norm(wish)), 1e-9))
        change = wish - velocity
        velocity = velocity + change * min(1.0, ACCELERATION * dt / max(float(np.linalg.norm(change)), 1e-9))
        point = now.point + velocity * dt
        # Where the arm cannot go, the set point waits for it.
        hand = self._station.hand(arm).point
        ahead = point - hand
        point = hand + ahead * min(1.0, LEASH / max(float(np.linalg.norm(ahead)), 1e-9))
        left = angle_between(now.rotation, intention.pose.rotation)
        spin = min(TURN_SPEED * pace, GAIN * pace * left, self._spin[arm] + TURN_ACCELERATION * dt)
        rotation = turn(now.rotation, intention.pose.rotation, spin * dt)
        self._set[arm], self._velocity[arm], self._spin[arm] = Pose(point, rotation), velocity, spin

    def _renew_aim(self, intentions: dict[str, Intention]) -> None:
        """An attempt ends when a hand that was closing opens."""
        half_open = (self._station.robot.open_gripper + self._station.robot.shut_gripper) / 2
        closing = {arm for arm, intention in intentions.items() if intention.grip < half_open}
        if self._closing - closing:
            self._aim = self._draw_aim()
        self._closing = closing

    def _paused(self) -> bool:
        now = self._station.time
        chance = self._skill.hesitation * self._station.contract.dt
        if chance and now >= self._pause_until and self._rng.random() < chance:
            self._pause_until = now + self._rng.uniform(*PAUSE)
        return now < self._pause_until

    def _draw_aim(self) -> np.ndarray:
        return np.append(self._rng.normal(size=2) * self._skill.aim_spread, 0.0)

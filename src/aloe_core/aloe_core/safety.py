"""Keeps every command inside the limits of the contract: position, velocity, acceleration, workspace, arm distance.

This is not a certified safety function: the robot's own limits and e-stop chain stay in charge.
"""

from __future__ import annotations

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.envelope import Envelope
from aloe_core.kinematics import RobotModel
from aloe_core.motion import Clamp, Motion

__all__ = ["Clamp", "Motion", "SafetyFilter"]

_SAME = 1e-9  # rad or m; a difference this small is rounding, not a clamp


class SafetyFilter:
    """Pure and deterministic: `apply` maps (request, motion so far) to the motion of the next tick.

    * a request within all limits is passed unchanged, bit for bit, once the previous one was reached;
    * position moves at most velocity * dt a tick, velocity changes at most acceleration * dt a tick;
    * it never leaves the position limits, because it never moves faster than it can still brake;
    * after a jump it closes in on the moving request at a speed it can brake from, so it does not oscillate;
    * with a model, what would leave the workspace or bring the arms too close is braked (see `Envelope`).
    """

    def __init__(self, contract: RobotContract, model: RobotModel | None = None) -> None:
        """`model` from `aloe_core.kinematics.load_model`; without it workspace and distance are not watched."""
        self._envelope = Envelope(contract, model) if model is not None else None
        self._dt = contract.dt
        self._lower, self._upper = contract.lower, contract.upper
        self._speed = contract.velocity
        self._gain = contract.acceleration * contract.dt  # largest change of velocity a tick

    def rest(self, position: np.ndarray) -> Motion:
        """Return the motion that stands still at `position` [J], which may lie outside the limits."""
        position = np.asarray(position, dtype=np.float64).copy()
        return Motion(position, np.zeros_like(position), position)

    def apply(self, requested: np.ndarray, last: Motion) -> tuple[Motion, Clamp]:
        """Return the next motion towards `requested` [J] and what was clamped.

        A request with a non-finite value is dropped as a whole and the robot brakes where it is.
        """
        wanted = np.asarray(requested, dtype=np.float64)
        if not np.isfinite(wanted).all():
            return self.stop(last)[0], Clamp.NONFINITE
        motion, reasons = self._move(wanted, last)
        if self._envelope is not None:
            motion, restrained = self._envelope.restrain(motion, self.stop(last)[0], last)
            reasons |= restrained
        return motion, reasons

    def stop(self, last: Motion) -> tuple[Motion, Clamp]:
        """Return the next motion of a robot that brakes where it is and then stays."""
        return self._move(last.position, Motion(last.position, last.velocity, last.position))

    def _move(self, wanted: np.ndarray, last: Motion) -> tuple[Motion, Clamp]:
        dt, position = self._dt, last.position
        request = np.clip(wanted, self._lower, self._upper)
        direct = (request - position) / dt
        # The request moves too: match its speed and close the lag behind it at a speed that can still be braked.
        drift = np.clip((request - last.request) / dt, -self._speed, self._speed)
        lag = request - drift * dt - position
        distances = np.stack([lag, self._lower - position, self._upper - position])
        closing, room_down, room_up = self._braking_speed(distances)
        velocity = np.clip(drift + closing, -self._speed, self._speed)
        velocity = np.minimum(np.maximum(velocity, room_down), room_up)
        velocity = np.clip(velocity, last.velocity - self._gain, last.velocity + self._gain)

        reached = np.abs(velocity - direct) * dt <= _SAME
        moved = np.where(reached, request, position + velocity * dt)
        # Rounding must not cross a limit; a start beyond one only ever moves back.
        moved = np.clip(moved, np.minimum(self._lower, position), np.maximum(self._upper, position))
        reasons = Clamp.NONE
        if not np.array_equal(request, wanted) and np.abs(request - wanted).max() > _SAME:
            reasons |= Clamp.POSITION
        if not reached.all():
            allowed = np.clip(direct, -self._speed, self._speed)
            if (np.abs(allowed - direct) * dt > _SAME).any():
                reasons |= Clamp.VELOCITY
            if (np.abs(velocity - allowed) * dt > _SAME).any():
                reasons |= Clamp.ACCELERATION
        return Motion(moved, velocity, request), reasons

    def _braking_speed(self, distance: np.ndarray) -> np.ndarray:
        """Return the largest allowed velocity whose discrete braking ends within `distance` [..., J] (signed).

        Braking from (n - 1 + f) gains, 0 < f <= 1, covers gain * dt * (n f + n (n - 1) / 2), this tick included.
        """
        units = np.abs(distance) / (self._gain * self._dt)
        n = np.maximum(np.ceil((np.sqrt(1.0 + 8.0 * units) - 1.0) / 2.0), 1.0)
        fraction = (units - n * (n - 1.0) / 2.0) / n
        return np.asarray(np.copysign(np.minimum((n - 1.0 + fraction) * self._gain, self._speed), distance))

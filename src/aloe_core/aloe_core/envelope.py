"""Keeps end effectors in their workspace boxes and arms apart: the part of the safety filter that knows the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.kinematics import RobotModel
from aloe_core.motion import Clamp, Motion, braked, mixed

_HALVINGS = 3  # of the way between braking and the motion that was wanted


@dataclass(frozen=True)
class _Trespass:
    """How far a motion goes where it must not, at its next position and where it would then come to rest."""

    outside: np.ndarray  # [E], m beyond each end effector's box; 0 inside
    short: float  # m below the smallest distance between the arms; 0 if they are far enough


class Envelope:
    """Chooses between a motion and braking, joint group by joint group.

    A motion is allowed if neither its next position nor the one where braking from there would end trespasses further
    than the present position does. So a robot that was allowed to move can always stop in time, and one that is
    outside (moved by hand, or a box that was made smaller) can always move back in.
    """

    def __init__(self, contract: RobotContract, model: RobotModel) -> None:
        assert contract.model is not None
        self._model = model
        self._gain, self._dt = contract.acceleration * contract.dt, contract.dt
        boxes = [contract.model.groups[group].workspace for group in model.groups]
        self._low = np.array([box.min if box else [-np.inf] * 3 for box in boxes])
        self._high = np.array([box.max if box else [np.inf] * 3 for box in boxes])
        self._apart = contract.model.min_distance or 0.0
        self._measures_distance = contract.model.min_distance is not None and len(contract.groups) > 1
        # [E, J] and [G, J]: the joints of each end effector's group and of each group.
        self._arms = np.array([contract.group_of == contract.groups.index(group) for group in model.groups])
        self._groups = np.array([contract.group_of == index for index in range(len(contract.groups))])

    def restrain(self, wanted: Motion, brake: Motion, last: Motion) -> tuple[Motion, Clamp]:
        """Return the motion nearest to `wanted` that is allowed, and why it is another one.

        `brake` is what stops the robot from `last`; both obey the joint limits, and so does all that lies between.
        """
        found = self._trespass(wanted)
        if not found.outside.any() and not found.short:
            return wanted, Clamp.NONE
        brake = replace(brake, request=wanted.request)
        present = self._trespass(Motion(last.position, np.zeros_like(last.velocity), last.request))
        motion, reasons = wanted, Clamp.NONE
        for index in np.flatnonzero(found.outside > present.outside):
            reasons |= Clamp.WORKSPACE
            motion = self._nearest(motion, mixed(motion, brake, self._arms[index]), present)
        if self._trespass(motion).short > present.short:
            reasons |= Clamp.DISTANCE
            motion = self._separate(motion, brake, present)
        return motion, reasons

    def _separate(self, wanted: Motion, brake: Motion, present: _Trespass) -> Motion:
        """Brake one arm if that is enough, so that the other can get out of the way, else both."""
        for joints in self._groups:
            one = mixed(wanted, brake, joints)
            if self._trespass(one).short <= present.short:
                return self._nearest(wanted, one, present)
        return self._nearest(wanted, brake, present)

    def _nearest(self, wanted: Motion, safe: Motion, present: _Trespass) -> Motion:
        """Return the motion between `safe` and `wanted` that goes farthest and is no worse than allowed."""
        best, low, high = safe, 0.0, 1.0
        limit = self._trespass(safe)
        outside, short = np.maximum(limit.outside, present.outside), max(limit.short, present.short)
        for _ in range(_HALVINGS):
            share = (low + high) / 2
            between = Motion(
                safe.position + share * (wanted.position - safe.position),
                safe.velocity + share * (wanted.velocity - safe.velocity),
                wanted.request,
            )
            found = self._trespass(between)
            if (found.outside <= outside).all() and found.short <= short:
                best, low = between, share
            else:
                high = share
        return best

    def _trespass(self, motion: Motion) -> _Trespass:
        outside, short = np.zeros(len(self._low)), 0.0
        for position in (motion.position, braked(motion, self._gain, self._dt)):
            points = self._model.points(position)
            beyond = np.maximum(self._low - points, points - self._high).max(axis=1)
            outside = np.maximum(outside, np.maximum(beyond, 0.0))
            if self._measures_distance:
                short = max(short, self._apart - self._model.distance(position, farthest=self._apart))
        return _Trespass(outside, short)

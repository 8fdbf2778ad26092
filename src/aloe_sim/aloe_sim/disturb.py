"""Disturbances: an object is nudged, dropped or swapped with another, a camera freezes; by hand or by schedule."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aloe_core.errors import AloeError, bad_value
from aloe_core.settings import load_settings

if TYPE_CHECKING:
    from aloe_sim.station import Station

KINDS = ("nudge", "drop", "swap", "freeze")
_DONE = {"nudge": "nudged", "drop": "dropped", "swap": "swapped"}
SPEED = 0.8  # m/s, of a nudge: some 3 cm on the table
DURATION = 1.0  # s, of a freeze
_STREAM = 0xD1  # keeps the schedule's draws apart from the task's, which get the same seed
_FORCE = 1.6  # of what a finger can resist, to open it
_FALLING = 0.08  # m from the pinch point, within which the fingers could catch again what they have dropped
_TRIES = 20  # other places
_OVERLAP = 0.001  # m that something put elsewhere may overlap what is there


@dataclass(frozen=True)
class Disturbance:
    """Something that goes wrong, at once.

    `nudge` gives an item a horizontal speed. `drop` forces open the fingers that hold it, until it has fallen. `swap`
    exchanges the places of an item and another one, or moves the only item to another start place. `freeze` makes a
    camera repeat the frame of this moment.
    """

    kind: str
    target: str = ""  # item; of freeze a camera; empty: one is drawn
    speed: float = SPEED  # m/s, of nudge
    duration: float = DURATION  # s, of freeze
    seed: int = 0  # of what is drawn: target, direction, the other place


class Disturbances(BaseModel):
    """What may happen in an episode, each kind at most once, drawn from the episode's seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nudge: float = Field(0.0, ge=0, le=1)  # probability per episode
    drop: float = Field(0.0, ge=0, le=1)
    swap: float = Field(0.0, ge=0, le=1)
    freeze: float = Field(0.0, ge=0, le=1)
    window: tuple[float, float] = (0.5, 3.0)  # s; at a moment in here, or the first later one in here when it can
    speed: tuple[float, float] = (0.5, 1.0)  # m/s
    duration: tuple[float, float] = (0.5, 1.5)  # s

    @model_validator(mode="after")
    def _ordered(self) -> Disturbances:
        for name in ("window", "speed", "duration"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} as [least, most], not negative")
        return self

    def plan(self, seed: int) -> list[tuple[float, Disturbance]]:
        """Return what happens in the episode of `seed`: seconds from its start, and what."""
        rng = np.random.default_rng([seed, _STREAM])
        planned = []
        for kind in KINDS:
            # Always as many draws, so that the kinds do not depend on each other.
            chance, when, speed, duration = rng.random(), *(rng.uniform(*r) for r in self._ranges())
            one = Disturbance(kind, "", speed, duration, int(rng.integers(2**31)))
            if chance < getattr(self, kind):
                planned.append((when, one))
        return sorted(planned, key=lambda p: p[0])

    def _ranges(self) -> tuple[tuple[float, float], ...]:
        return self.window, self.speed, self.duration


def load_disturbances(path: str | Path) -> Disturbances:
    """Read a schedule; AloeError names file, key, value and expectation."""
    return load_settings(path, Disturbances)


class Disturber:
    """Disturbs one station. What moves lives in the physics state; frozen frames and the schedule do not."""

    def __init__(self, station: Station, schedule: Disturbances | None) -> None:
        """AloeError for a schedule with what can never happen to the station's task."""
        self._station = station
        self._schedule = schedule
        self._planned: deque[tuple[float, Disturbance]] = deque()
        self._frozen: dict[str, tuple[int, np.ndarray]] = {}  # camera: first tick that is seen again, frame
        self.done: list[tuple[int, Disturbance]] = []  # tick and what, since the reset
        for kind in _DONE:
            if schedule and getattr(schedule, kind):
                self._items(Disturbance(kind))

    def reset(self, seed: int) -> None:
        """Forget what was, plan the episode of `seed`."""
        self._frozen.clear()
        self.done.clear()
        self._planned = deque(self._schedule.plan(seed) if self._schedule else ())

    def update(self) -> bool:
        """Do what is due before this tick of physics; return whether the scene has changed."""
        self._end_drops()
        changed = False
        for _ in range(len(self._planned)):
            when, one = self._planned.popleft()
            if when <= self._station.time <= max(when, self._schedule.window[1]):
                try:
                    self.apply(one)
                    changed = True
                    continue
                except _NotNow:
                    pass
            if self._station.time <= max(when, self._schedule.window[1]):
                self._planned.append((when, one))
        return changed

    def apply(self, one: Disturbance) -> None:
        """Disturb; AloeError says what is unknown or cannot be done now."""
        if one.kind not in KINDS:
            raise AloeError(f"Unknown disturbance {one.kind!r}: expected one of {', '.join(KINDS)}.")
        for name in ("speed", "duration"):
            if not 0 <= getattr(one, name) < np.inf:
                raise bad_value(f"Disturbance {one.kind}", name, getattr(one, name), "0 or more")
        rng = np.random.default_rng(one.seed)
        if one.kind == "freeze":
            target = self._freeze(one, rng)
        else:
            target = {"nudge": self._nudge, "drop": self._drop, "swap": self._swap}[one.kind](one, rng)
        self.done.append((self._station.tick, Disturbance(one.kind, target, one.speed, one.duration, one.seed)))

    def frame(self, camera: str) -> np.ndarray | None:
        """Return the frame a frozen camera repeats, None if it is not frozen."""
        until, frame = self._frozen.get(camera, (0, None))
        return frame if self._station.tick < until else None

    # --- the kinds; each returns what was disturbed ------------------------------------------------------------

    def _nudge(self, one: Disturbance, rng: np.random.Generator) -> str:
        item = self._item(one, rng)
        angle = rng.uniform(-np.pi, np.pi)
        self._station.data.joint(item).qvel[:2] += one.speed * np.array([np.cos(angle), np.sin(angle)])
        return item

    def _drop(self, one: Disturbance, _rng: np.random.Generator) -> str:
        station = self._station
        items = [one.target] if one.target else self._items(one)
        self._check_item(items[0], one)
        held = next((i for i in items if station.holder(i)), None)
        if held is None:
            raise _NotNow(f"Disturbance drop: no hand holds {' or '.join(items)}.")
        self._force(station.holder(held), _FORCE)
        return held

    def _swap(self, one: Disturbance, rng: np.random.Generator) -> str:
        station = self._station
        item = self._item(one, rng)
        others = [i for i in self._items(one) if i != item and self._lies(i)]
        if not self._lies(item):
            raise _NotNow(f"Disturbance swap: {item} is in a hand or moving.")
        if others:
            other = str(rng.choice(others))
            here, there = (station.data.joint(i).qpos.copy() for i in (item, other))
            new = {item: np.append(there[:2], here[2:]), other: np.append(here[:2], there[2:])}
            if not self._put(new):
                raise _NotNow(f"Disturbance swap: {item} and {other} do not fit in each other's place.")
            return item
        elsewhere = mujoco.MjData(station.model)
        for _ in range(_TRIES):
            mujoco.mj_resetData(station.model, elsewhere)
            station.task.reset(station.model, elsewhere, rng)
            if self._put({item: elsewhere.joint(item).qpos.copy()}):
                return item
        raise _NotNow(f"Disturbance swap: there is no room for {item} elsewhere.")

    def _freeze(self, one: Disturbance, rng: np.random.Generator) -> str:
        station = self._station
        cameras = station.contract.camera_names
        camera = one.target or str(rng.choice(cameras))
        if camera not in cameras:
            raise AloeError(f"Disturbance freeze: no camera {camera!r}; there is {', '.join(cameras)}.")
        if station.can_render:
            until = station.tick + max(1, round(one.duration / station.contract.dt))
            self._frozen[camera] = until, station.render(camera).copy()
        return camera

    # --- inside ------------------------------------------------------------------------------------------------

    def _items(self, one: Disturbance) -> list[str]:
        station = self._station
        free = mujoco.mjtJoint.mjJNT_FREE
        joints = {station.model.joint(j).name for j in np.flatnonzero(station.model.jnt_type == free)}
        items = [i for i in station.task.items if i in joints]
        if not items:
            raise AloeError(
                f"Task {station.task_name} has no objects that move freely, so none can be {_DONE[one.kind]}."
            )
        return items

    def _check_item(self, item: str, one: Disturbance) -> None:
        if item not in self._items(one):
            raise AloeError(f"Disturbance {one.kind}: no object {item!r}; there is {', '.join(self._items(one))}.")

    def _item(self, one: Disturbance, rng: np.random.Generator) -> str:
        item = one.target or str(rng.choice(self._items(one)))
        self._check_item(item, one)
        return item

    def _lies(self, item: str) -> bool:
        station = self._station
        touched = any(station.touching(arm, item) for arm in station.robot.arms)
        return station.supported(item) and not touched and station.speed(item) < 0.05

    def _put(self, places: dict[str, np.ndarray]) -> bool:
        """Set items down at qpos [7], at rest, if there is room; else leave everything as it was."""
        model, data = self._station.model, self._station.data
        before = {item: (data.joint(item).qpos.copy(), data.joint(item).qvel.copy()) for item in places}
        for item, qpos in places.items():
            data.joint(item).qpos[:], data.joint(item).qvel[:] = qpos, 0
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        bodies = [model.body(item).id for item in places]
        moved = np.isin(model.geom_bodyid[data.contact.geom], bodies).any(axis=1) if data.ncon else []
        fits = not (data.contact.dist[moved] < -_OVERLAP).any() if data.ncon else True
        if not fits:
            for item, (qpos, qvel) in before.items():
                data.joint(item).qpos[:], data.joint(item).qvel[:] = qpos, qvel
            mujoco.mj_kinematics(model, data)
            mujoco.mj_collision(model, data)
        return fits

    def _force(self, arm: str, share: float) -> None:
        """Push the fingers of `arm` apart with `share` of what they can resist; 0 ends it."""
        station = self._station
        for sign, finger in zip((1, -1), station.robot.arms[arm].fingers, strict=True):
            limit = station.model.actuator(finger).forcerange[1]
            station.data.qfrc_applied[station.model.joint(finger).dofadr[0]] = sign * share * limit

    def _end_drops(self) -> None:
        """Give fingers back what was dropped has fallen: the force itself is the memory, so that a mirror agrees."""
        station = self._station
        if not station.data.qfrc_applied.any():
            return
        for arm in station.robot.arms:
            if not any(
                not station.supported(item)
                and station.holder(item) in (None, arm)
                and np.linalg.norm(station.position(item) - station.hand(arm).point) < _FALLING
                for item in station.task.items
            ):
                self._force(arm, 0.0)


class _NotNow(AloeError):
    """Cannot be done in this state of the scene; a schedule tries again."""

"""The robot contract: one YAML file that says what the robot sees, moves and promises."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aloe_core.errors import AloeError, bad_value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Camera(_Section):
    """A camera; `topic` is its base, under which image_raw, image_raw/compressed and camera_info live."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    topic: str
    width: int = Field(ge=16, le=4096)
    height: int = Field(ge=16, le=4096)
    rate_hz: float = Field(gt=0, le=240)
    frame_id: str


class Joint(_Section):
    """A joint; limits in its unit, per second and per second squared."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_/]*$")
    group: str
    unit: Literal["rad", "m"]
    min: float
    max: float
    velocity: float = Field(gt=0)
    acceleration: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Joint:
        if not self.min < self.max:
            raise ValueError(f"min below max, got {self.min} and {self.max}")
        return self


class Control(_Section):
    """Control rate and the way commands reach the robot."""

    rate_hz: float = Field(gt=0, le=1000)
    joint_states_topic: str
    command_kind: Literal["joint_trajectory", "float64_multi_array"]
    command_topic: str


class Chunk(_Section):
    """Control steps predicted at once, and how many of them run."""

    horizon: int = Field(ge=1, le=500)
    execute: int = Field(ge=1, le=500)

    @model_validator(mode="after")
    def _fits(self) -> Chunk:
        if self.execute > self.horizon:
            raise ValueError(f"execute at most horizon, got {self.execute} and {self.horizon}")
        return self


class Takeover(_Section):
    """Joystick buttons, leader topic and the largest leader-follower difference at engagement (rad)."""

    joy_topic: str
    leader_topic: str
    deadman_button: int = Field(ge=0, le=63)
    estop_button: int = Field(ge=0, le=63)
    success_button: int = Field(ge=0, le=63)
    failure_button: int = Field(ge=0, le=63)
    alignment_tolerance: float = Field(gt=0)


class Staleness(_Section):
    """Age in seconds beyond which an input fails closed."""

    joint_states: float = Field(gt=0)
    camera: float = Field(gt=0)
    chunk: float = Field(gt=0)
    teleop: float = Field(gt=0)


class RobotContract(_Section):
    """Validated contract. Vectors of states and actions follow the order of `joints`."""

    format: Literal[1]
    name: str
    cameras: tuple[Camera, ...] = Field(min_length=1)
    joints: tuple[Joint, ...] = Field(min_length=1)
    control: Control
    chunk: Chunk
    takeover: Takeover
    staleness: Staleness

    @model_validator(mode="after")
    def _unique(self) -> RobotContract:
        for what, names in (("camera", self.camera_names), ("joint", self.joint_names)):
            doubled = sorted({n for n in names if names.count(n) > 1})
            if doubled:
                raise ValueError(f"unique {what} names, {doubled[0]!r} stands twice")
        return self

    @property
    def dt(self) -> float:
        """Control period, s."""
        return 1.0 / self.control.rate_hz

    @property
    def joint_names(self) -> list[str]:
        return [j.name for j in self.joints]

    @property
    def camera_names(self) -> list[str]:
        return [c.name for c in self.cameras]

    @property
    def action_dim(self) -> int:
        return len(self.joints)

    def camera(self, name: str) -> Camera:
        """Return the camera called `name`; AloeError if there is none."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise AloeError(f"Contract {self.name}: no camera {name!r}; it has {', '.join(self.camera_names)}.")

    @cached_property
    def lower(self) -> np.ndarray:
        """Lower position limits, shape [joints]."""
        return np.array([j.min for j in self.joints])

    @cached_property
    def upper(self) -> np.ndarray:
        """Upper position limits, shape [joints]."""
        return np.array([j.max for j in self.joints])

    @cached_property
    def velocity(self) -> np.ndarray:
        """Velocity limits, shape [joints], unit/s."""
        return np.array([j.velocity for j in self.joints])

    @cached_property
    def acceleration(self) -> np.ndarray:
        """Acceleration limits, shape [joints], unit/s^2."""
        return np.array([j.acceleration for j in self.joints])

    def order(self, names: list[str], what: str = "joint state") -> list[int]:
        """Return, for each contract joint, its index in `names`; AloeError names the first one missing."""
        index = {n: i for i, n in enumerate(names)}
        for joint in self.joint_names:
            if joint not in index:
                raise AloeError(
                    f"{what}: no joint {joint!r}, which contract {self.name} needs; got {', '.join(names) or 'none'}."
                )
        return [index[j] for j in self.joint_names]

    @cached_property
    def hash(self) -> str:
        """Identity of what data and policies depend on (not of topics, buttons or rate limits), 16 hex digits."""
        identity = {
            "cameras": [[c.name, c.width, c.height, c.rate_hz] for c in self.cameras],
            "joints": [[j.name, j.unit, j.min, j.max] for j in self.joints],
            "rate_hz": self.control.rate_hz,
            "chunk": [self.chunk.horizon, self.chunk.execute],
        }
        blob = json.dumps(identity, sort_keys=True).encode()
        return hashlib.sha256(blob).hexdigest()[:16]


def load_contract(path: str | Path) -> RobotContract:
    """Read and validate a contract; AloeError names file, key, value and expectation."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise AloeError(f"{path}: cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise AloeError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(data, dict):
        raise bad_value(path, "(document)", type(data).__name__, "a mapping of contract keys")
    try:
        return RobotContract.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"]) or "(document)"
        value = first["input"] if not isinstance(first["input"], (dict, list)) else "…"
        expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise bad_value(path, key, value, expected) from error

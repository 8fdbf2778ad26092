"""The robot contract: one YAML file that says what the robot sees, moves and promises."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from aloe_core.contract_takeover import Takeover
from aloe_core.errors import AloeError
from aloe_core.section import Section as _Section
from aloe_core.settings import load_settings


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
    blend: float = Field(default=0.3, ge=0, le=5)  # s from the held command to the policy's chunk, after a hand-back


class Chunk(_Section):
    """Control steps predicted at once, and how many of them run."""

    horizon: int = Field(ge=1, le=500)
    execute: int = Field(ge=1, le=500)

    @model_validator(mode="after")
    def _fits(self) -> Chunk:
        if self.execute > self.horizon:
            raise ValueError(f"execute at most horizon, got {self.execute} and {self.horizon}")
        return self


class Staleness(_Section):
    """Age in seconds beyond which an input fails closed."""

    joint_states: float = Field(gt=0)
    camera: float = Field(gt=0)
    chunk: float = Field(gt=0)
    teleop: float = Field(gt=0)


class Workspace(_Section):
    """Box that an end effector stays in: corners in m, in the model's base (world) frame."""

    min: tuple[float, float, float]
    max: tuple[float, float, float]

    @model_validator(mode="after")
    def _ordered(self) -> Workspace:
        if not all(low < high for low, high in zip(self.min, self.max, strict=True)):
            raise ValueError(f"min below max along every axis, got {list(self.min)} and {list(self.max)}")
        return self


class ModelGroup(_Section):
    """A joint group's place in the model: its end effector is a site or a body."""

    end_effector: str
    workspace: Workspace | None = None


class Model(_Section):
    """Kinematic and collision model with the contract's joint names; see `aloe_core.kinematics`.

    `file` is an MJCF or URDF file, relative to the contract or package://<ROS package>/<path in its share folder>;
    `module` is a Python module whose `kinematic_model()` returns a mujoco.MjModel.
    """

    file: str = ""
    module: str = Field(default="", pattern=r"^([A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?$")
    groups: dict[str, ModelGroup] = Field(min_length=1)
    min_distance: float | None = Field(default=None, ge=0, le=1)  # m, between collision geometry of any two groups

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if bool(self.file) == bool(self.module):
            raise ValueError("either file or module")
        return self


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
    model: Model | None = None
    folder: Path | None = Field(default=None, exclude=True, repr=False)  # of the file, set by `load_contract`

    @model_validator(mode="after")
    def _known_groups(self) -> RobotContract:
        for group in self.model.groups if self.model else ():
            if group not in self.groups:
                raise ValueError(f"model.groups among the joints' groups ({', '.join(self.groups)}), got {group!r}")
        for key, names in self.takeover.named_groups().items():
            for group in names:
                if group not in self.groups:
                    raise ValueError(f"{key} among the joints' groups ({', '.join(self.groups)}), got {group!r}")
        return self

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

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Joint groups (arms) in the order in which `joints` names them first."""
        return tuple(dict.fromkeys(j.group for j in self.joints))

    @cached_property
    def group_of(self) -> np.ndarray:
        """For each joint the index of its group in `groups`, int [joints]."""
        return np.array([self.groups.index(j.group) for j in self.joints], dtype=np.intp)

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
        """Identity of what data and policies depend on, 16 hex digits.

        Not of topics, buttons, rate limits, takeover, staleness or the model: they bound what is executed, which a bag
        records step by step, and change neither the meaning of a vector nor that of a chunk.
        """
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
    contract = load_settings(path, RobotContract, "a mapping of contract keys")
    return contract.model_copy(update={"folder": path.resolve().parent})

"""How a contract's observations and joint positions are named and laid out at a policy server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError, bad_value
from aloe_core.section import Section
from aloe_core.settings import load_settings

Key = str | tuple[str, ...]  # a key of the observation, or a path through nested dicts ([images, cam_high])


class CameraKey(Section):
    """Where one camera's image goes, uint8 RGB."""

    key: Key
    size: tuple[int, int] | None = None  # height, width; None: as the server says, else as the camera
    fit: Literal["pad", "stretch"] = "pad"  # pad keeps the aspect, with black bars
    layout: Literal["hwc", "chw"] = "hwc"


class Number(Section):
    """A joint as one of the server's numbers: number = position * scale + offset."""

    joint: str
    scale: float = Field(default=1.0)
    offset: float = 0.0
    # Of actions. delta: added to the observed position (DeltaActions of openpi). step: added to the row before.
    kind: Literal["absolute", "delta", "step"] = "absolute"

    @model_validator(mode="after")
    def _invertible(self) -> Number:
        if not np.isfinite([self.scale, self.offset]).all() or self.scale == 0:
            raise ValueError(f"a finite scale other than 0, got scale {self.scale} and offset {self.offset}")
        return self


def _number(value: Any) -> Any:
    return {"joint": value} if isinstance(value, str) else value


JointNumber = Annotated[Number, BeforeValidator(_number)]


class StateKey(Section):
    """Where the joint positions go, float32."""

    key: Key = "observation/state"
    joints: tuple[JointNumber, ...] | None = None  # None: the contract's, in its order


class Actions(Section):
    """What the columns of the answer mean."""

    key: str = "actions"
    columns: tuple[JointNumber | None, ...] | None = None  # None: the contract's joints; null: not used
    rest: Literal["refuse", "hold"] = "refuse"  # joints without a column: an error, or they stay where they are
    rate_hz: float | None = Field(default=None, gt=0, le=1000)  # rows a second; None: the contract's control rate


class Mapping(Section):
    """The YAML file that parameter `remote_mapping` names; docs/policies.md has examples."""

    cameras: dict[str, CameraKey]
    state: StateKey | None = StateKey()
    prompt: Key | None = "prompt"
    actions: Actions = Actions()


def default_mapping(contract: RobotContract) -> Mapping:
    """Return the names that servers of this suite use: observation/<camera>, observation/state, prompt."""
    return Mapping(cameras={name: CameraKey(key=f"observation/{name}") for name in contract.camera_names})


def load_mapping(path: str | Path, contract: RobotContract) -> Mapping:
    """Read and validate a mapping; AloeError names file, key, value and expectation."""
    path = Path(path)
    mapping = load_settings(path, Mapping, "a mapping with cameras, state, prompt and actions")
    _check_names(mapping, contract, path)
    return mapping


def _check_names(mapping: Mapping, contract: RobotContract, path: Path) -> None:
    for camera in mapping.cameras:
        if camera not in contract.camera_names:
            raise bad_value(path, "cameras", camera, f"one of {', '.join(contract.camera_names)}")
    known = f"one of {', '.join(contract.joint_names)}"
    for number in (mapping.state.joints or ()) if mapping.state else ():
        if number.joint not in contract.joint_names:
            raise bad_value(path, "state.joints", number.joint, known)
        if number.kind != "absolute":
            raise bad_value(path, "state.joints", number.kind, "kind absolute; delta and step are for actions")
    if mapping.actions.columns is None:
        return
    given = [c.joint for c in mapping.actions.columns if c is not None]
    for joint in given:
        if joint not in contract.joint_names or given.count(joint) > 1:
            raise bad_value(path, "actions.columns", joint, f"{known}, each once")
    missing = [j for j in contract.joint_names if j not in given]
    if missing and mapping.actions.rest == "refuse":
        raise AloeError(
            f"{path}: actions.columns lacks {missing[0]!r}: expected every joint, or actions.rest = 'hold'."
        )

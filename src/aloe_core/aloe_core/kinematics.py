"""Where the arms are and how near they come to each other: the contract's `model` section on MuJoCo.

MuJoCo is needed only by a contract that has a model; this module imports without it.
"""

from __future__ import annotations

import importlib
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError, bad_value

Pose = tuple[np.ndarray, np.ndarray]  # position [3], m; unit quaternion [4], x y z w; model's base (world) frame
_PACKAGE = "package://"


class RobotModel:
    """Forward kinematics and arm distance for joint positions [J] in contract order, rad (m for slides).

    Joints of the model that the contract does not name follow the model's joint equalities (a second finger) or stay
    at their reference. Not thread-safe: every method moves `data`.

    What inverse kinematics needs: `model`, `data`, `qpos` and `dofs` (addresses [J] in contract order), `frames`
    (group -> name and "site" or "body" of its end effector, as mink.FrameTask takes them), `jacobian`.
    """

    def __init__(self, contract: RobotContract, model: Any) -> None:
        """`model` is a mujoco.MjModel; AloeError if it lacks a joint or an end effector that the contract names."""
        assert contract.model is not None
        self._mujoco = _mujoco()
        self.contract = contract
        self.model = model
        self.data = self._mujoco.MjData(model)
        joints = np.array([self._id("JOINT", name) for name in contract.joint_names], dtype=np.intp)
        for name, joint in zip(contract.joint_names, joints, strict=True):
            if joint < 0:
                raise AloeError(f"Contract {contract.name}: model has no joint {name!r}; it has {self._names()}.")
        self.qpos: np.ndarray = model.jnt_qposadr[joints].astype(np.intp)
        self.dofs: np.ndarray = model.jnt_dofadr[joints].astype(np.intp)
        self.frames = {g: self._frame(g, spec.end_effector) for g, spec in contract.model.groups.items()}
        self._frame_ids = {group: self._id(kind.upper(), name) for group, (name, kind) in self.frames.items()}
        self._followers = self._joint_equalities()
        self._pairs = self._geom_pairs(joints)
        self._reach = model.geom_rbound[self._pairs].sum(axis=1)

    @property
    def groups(self) -> tuple[str, ...]:
        """Joint groups that have an end effector."""
        return tuple(self.frames)

    def put(self, q: np.ndarray) -> None:
        """Set `data` to joint positions `q` [J] and compute all poses."""
        self.data.qpos[self.qpos] = q
        for follower, leader, coefficients, zero, leader_zero in self._followers:
            offset = self.data.qpos[leader] - leader_zero
            self.data.qpos[follower] = zero + np.polynomial.polynomial.polyval(offset, coefficients)
        self._mujoco.mj_kinematics(self.model, self.data)

    def end_effectors(self, q: np.ndarray) -> dict[str, Pose]:
        """Return the pose of each group's end effector at `q` [J]."""
        self.put(q)
        return {group: self._pose(group) for group in self.frames}

    def points(self, q: np.ndarray) -> np.ndarray:
        """Return the positions of the end effectors at `q` [J], [groups, 3], m, in the order of `groups`."""
        self.put(q)
        return np.array([self._xpos(group) for group in self.frames])

    def jacobian(self, group: str, q: np.ndarray) -> np.ndarray:
        """Return [6, J]: linear (m) and angular (rad) velocity of a group's end effector in the world per joint."""
        self.put(q)
        self._mujoco.mj_comPos(self.model, self.data)
        full = np.zeros((6, self.model.nv))
        of = self._mujoco.mj_jacSite if self.frames[group][1] == "site" else self._mujoco.mj_jacBody
        of(self.model, self.data, full[:3], full[3:], self._frame_ids[group])
        columns: np.ndarray = full[:, self.dofs]
        return columns

    def distance(self, q: np.ndarray, farthest: float = np.inf) -> float:
        """Return the smallest distance (m) between two groups' collision geometry at `q` [J], negative if they overlap.

        `farthest`: what is at least that far away is not measured exactly, which saves time. inf with one arm.
        """
        self.put(q)
        at = self.data.geom_xpos[self._pairs]
        bound = np.linalg.norm(at[:, 0] - at[:, 1], axis=1) - self._reach  # spheres around the geometry
        nearest = farthest
        for pair in np.argsort(bound):
            if bound[pair] >= nearest:
                break
            one, other = self._pairs[pair]
            limit = nearest if np.isfinite(nearest) else bound[pair] + self._reach[pair]
            nearest = min(nearest, self._mujoco.mj_geomDistance(self.model, self.data, one, other, limit, None))
        return float(nearest)

    def _pose(self, group: str) -> Pose:
        kind, index = self.frames[group][1], self._frame_ids[group]
        matrix = self.data.site_xmat[index] if kind == "site" else self.data.xmat[index]
        quaternion = np.zeros(4)
        self._mujoco.mju_mat2Quat(quaternion, matrix)
        return self._xpos(group).copy(), np.roll(quaternion, -1)

    def _xpos(self, group: str) -> np.ndarray:
        found = self.data.site_xpos if self.frames[group][1] == "site" else self.data.xpos
        point: np.ndarray = found[self._frame_ids[group]]
        return point

    def _id(self, kind: str, name: str) -> int:
        return int(self._mujoco.mj_name2id(self.model, getattr(self._mujoco.mjtObj, f"mjOBJ_{kind}"), name))

    def _names(self) -> str:
        return ", ".join(self.model.joint(i).name or "(unnamed)" for i in range(self.model.njnt)) or "none"

    def _frame(self, group: str, name: str) -> tuple[str, str]:
        for kind in ("site", "body"):
            if self._id(kind.upper(), name) >= 0:
                return name, kind
        raise AloeError(
            f"Contract {self.contract.name}: model.groups.{group}.end_effector = {name!r}: "
            "expected a site or body of the model."
        )

    def _joint_equalities(self) -> list[tuple[int, int, np.ndarray, float, float]]:
        model, found = self.model, []
        for i in np.flatnonzero(model.eq_type == self._mujoco.mjtEq.mjEQ_JOINT):
            follower, leader = model.jnt_qposadr[model.eq_obj1id[i]], model.jnt_qposadr[model.eq_obj2id[i]]
            if model.eq_active0[i] and model.eq_obj2id[i] >= 0 and follower not in self.qpos:
                zeros = float(model.qpos0[follower]), float(model.qpos0[leader])
                found.append((int(follower), int(leader), model.eq_data[i, :5].copy(), *zeros))
        return found

    def _geom_pairs(self, joints: np.ndarray) -> np.ndarray:
        """Return [pairs, 2]: collision geoms of different groups; a geom belongs to the last joint before it."""
        model, group_of = self.model, dict(zip(self.model.jnt_bodyid[joints], self.contract.group_of, strict=True))
        owned: dict[int, list[int]] = {}
        for geom in np.flatnonzero(model.geom_contype | model.geom_conaffinity):
            body = model.geom_bodyid[geom]
            while body and body not in group_of:
                body = model.body_parentid[body]
            if body:
                owned.setdefault(group_of[body], []).append(int(geom))
        pairs = [(a, b) for one, other in combinations(owned.values(), 2) for a in one for b in other]
        return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def load_model(contract: RobotContract) -> RobotModel | None:
    """Return the contract's model, None if it has no `model` section; AloeError if it cannot be loaded."""
    if contract.model is None:
        return None
    if contract.model.module:
        return RobotModel(contract, _from_module(contract, contract.model.module))
    file = _resolve(contract, contract.model.file)
    try:
        return RobotModel(contract, _mujoco().MjModel.from_xml_path(str(file)))
    except ValueError as error:  # what MuJoCo raises for a file that is missing or is no model
        raise AloeError(f"{file}: not a model that MuJoCo reads ({' '.join(str(error).split())}).") from error


def _from_module(contract: RobotContract, name: str) -> Any:
    try:
        return importlib.import_module(name).kinematic_model()
    except (ImportError, AttributeError) as error:
        expected = "an installed module with kinematic_model()"
        raise bad_value(f"Contract {contract.name}", "model.module", name, f"{expected} ({error})") from error


def _resolve(contract: RobotContract, file: str) -> Path:
    if not file.startswith(_PACKAGE):
        return (contract.folder or Path()) / file
    relative = Path("share") / file.removeprefix(_PACKAGE)
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix and (Path(prefix) / relative).is_file():
            return Path(prefix) / relative
    expected = "a file in the share folder of a ROS package of this environment"
    raise bad_value(f"Contract {contract.name}", "model.file", file, expected)


def _mujoco() -> Any:
    try:
        return importlib.import_module("mujoco")
    except ImportError as error:
        raise AloeError(
            "The contract's model needs the package mujoco, which is not installed: pip install mujoco."
        ) from error

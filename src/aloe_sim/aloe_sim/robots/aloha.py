"""ALOHA: two ViperX 300s arms from gym-aloha's meshes, with pads on the fingers; a camera above, one on each wrist."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import mujoco
import numpy as np

from aloe_core.errors import AloeError
from aloe_sim.meshes import decimate, read_stl
from aloe_sim.robots.base import Arm, Robot, servo
from aloe_sim.robots.kinematic import kinematic
from aloe_sim.scene import ALL_BITS, ARM_BITS, furnish

GRIPPER_RANGE = (0.017, 0.057)  # m, finger joint: shut, 8 cm open
PINCH = 0.139  # m, gripper link to the point between the pads
_ARMS = ("left", "right")
_ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
_BIT = dict(zip(_ARMS, ARM_BITS, strict=True))
_STIFFNESS = {"waist": 800, "shoulder": 1600, "elbow": 800, "forearm_roll": 200, "wrist_angle": 200, "wrist_rotate": 60}
_FINGER_STIFFNESS = 800  # N/m
_FINGER_SHIFT = 0.0075  # m outwards, so that the pads meet at the lower end of the finger joint
_PAD = np.array([0.016, 0.002, 0.012])  # m, half sizes
_ARM = [0.18, 0.19, 0.21, 1]
_FINGER = {"left": [0.1, 0.45, 0.9, 1], "right": [0.95, 0.6, 0.1, 1]}
_CELL = {"vx300s_7_gripper": 6.0, "vx300s_9_gripper_bar": 8.0}  # mm; others 10
# Pinch points 0.2 m from the bases, 0.16 m up, grippers pointing down, fingers opening along the arm.
_HOME_JOINTS = (0.0, -0.518944, 0.680795, 0.0, 1.408945, np.pi / 2, 0.055)
_HOME = dict(zip((*_ARM_JOINTS, "gripper"), _HOME_JOINTS, strict=True))


def _arm(arm: str) -> Arm:
    name = f"vx300s_{arm}"
    return Arm(
        name=arm,
        joints=tuple(f"{name}/{j}" for j in _ARM_JOINTS),
        fingers=(f"{name}/left_finger", f"{name}/right_finger"),
        finger_bodies=(f"{name}/left_finger_link", f"{name}/right_finger_link"),
        pinch=f"pinch_{arm}",
        base=np.array([-0.469 if arm == "left" else 0.469, 0.5, 0.0]),
        reach=0.58,
    )


class Aloha(Robot):
    """The bimanual station of the ALOHA papers, on servos that carry their own weight."""

    name = "aloha"
    arms = {arm: _arm(arm) for arm in _ARMS}  # noqa: RUF012
    joints = {  # noqa: RUF012
        f"{arm}_{joint}": f"vx300s_{arm}/{'left_finger' if joint == 'gripper' else joint}"
        for arm in _ARMS
        for joint in (*_ARM_JOINTS, "gripper")
    }
    cameras = ("top", "wrist_left", "wrist_right", "front")
    home = {f"{arm}_{joint}": value for arm in _ARMS for joint, value in _HOME.items()}  # noqa: RUF012
    open_gripper = 0.055
    shut_gripper = GRIPPER_RANGE[0]

    def build(self, timestep: float) -> mujoco.MjSpec:
        """AloeError if gym-aloha is not installed."""
        folder = _assets()
        spec = mujoco.MjSpec.from_string(_document(folder))
        spec.compiler.inertiagrouprange = [0, 5]
        furnish(spec, timestep)
        _simplify_meshes(spec, folder)
        for arm in _ARMS:
            _harden(spec, arm)
            _fingers(spec, arm)
        _cameras(spec)
        return spec


def kinematic_model() -> mujoco.MjModel:
    """What a contract's `model.module` names; see `aloe_sim.robots.kinematic`."""
    return kinematic(Aloha())


def _assets() -> Path:
    found = importlib.util.find_spec("gym_aloha")
    if found is None or found.origin is None:
        raise AloeError("The simulator needs the package gym-aloha, which is not installed: pip install gym-aloha.")
    return Path(found.origin).parent / "assets"


def _document(folder: Path) -> str:
    """The arms alone; gym-aloha's own documents bring task objects along."""
    return f"""<mujoco model="aloe_station">
      <compiler meshdir="{folder}"/>
      <include file="{folder}/vx300s_dependencies.xml"/>
      <worldbody>
        <include file="{folder}/vx300s_left.xml"/>
        <include file="{folder}/vx300s_right.xml"/>
      </worldbody>
    </mujoco>"""


def _simplify_meshes(spec: mujoco.MjSpec, folder: Path) -> None:
    for mesh in list(spec.meshes):
        vertices, faces = decimate(read_stl(folder / mesh.file), _CELL.get(mesh.name, 10.0))
        mesh.file, mesh.scale = "", [1, 1, 1]
        mesh.uservert, mesh.userface = (vertices * 1e-3).ravel(), faces.ravel()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX  # merged vertices leave small holes


def _harden(spec: mujoco.MjSpec, arm: str) -> None:
    name = f"vx300s_{arm}"
    for body in [spec.body(name), *spec.body(name).find_all("body")]:
        body.gravcomp = 1  # as the servos' own controllers do
        for geom in body.geoms:
            geom.rgba = _ARM
            solid = any(part in geom.name for part in ("forearm", "wrist", "7_gripper", "finger"))
            geom.contype, geom.conaffinity = (_BIT[arm], ALL_BITS - _BIT[arm]) if solid else (0, 0)
    for short in _ARM_JOINTS:
        joint = spec.joint(f"{name}/{short}")
        joint.armature, joint.damping, joint.frictionloss = 0.02, [2.0, 0, 0], 0
        servo(spec, joint, _STIFFNESS[short], force=300)


def _fingers(spec: mujoco.MjSpec, arm: str) -> None:
    name = f"vx300s_{arm}"
    for side, sign in (("left", 1.0), ("right", -1.0)):
        joint = spec.joint(f"{name}/{side}_finger")
        joint.armature, joint.damping, joint.frictionloss = 0.05, [1.0, 0, 0], 0
        joint.range = sorted(sign * r for r in GRIPPER_RANGE)
        servo(spec, joint, _FINGER_STIFFNESS, force=12)
        body = spec.body(f"{name}/{side}_finger_link")
        mesh = body.geoms[0]
        mesh.pos = mesh.pos + np.array([0, sign * _FINGER_SHIFT, 0])
        body.add_geom(
            name=f"{name}/{side}_pad",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=_PAD,
            pos=[PINCH - 0.0687, -sign * (GRIPPER_RANGE[0] - _PAD[1]), 0],
            rgba=_FINGER[arm],
            friction=[1.5, 0.02, 0.001],
            condim=4,
            mass=0.002,
            contype=_BIT[arm],
            conaffinity=ALL_BITS - _BIT[arm],
        )
        mesh.rgba = _FINGER[arm]


def _cameras(spec: mujoco.MjSpec) -> None:
    for camera in list(spec.cameras):
        if camera.name != "front":
            spec.delete(camera)
    # Nearly orthographic, 0.46 m of table: a block is 8 pixels wide at 96x96.
    spec.worldbody.add_camera(name="top", pos=[0, 0.535, 1.3], fovy=20.2)
    for arm in _ARMS:
        gripper = spec.body(f"vx300s_{arm}/gripper_link")
        gripper.add_site(name=f"pinch_{arm}", pos=[PINCH, 0, 0], rgba=[0, 0, 0, 0])
        down = np.arctan2(0.1, 0.19)
        gripper.add_camera(
            name=f"wrist_{arm}",
            pos=[0.02, 0, 0.1],
            fovy=70,
            xyaxes=[0, -1, 0, np.sin(down), 0, np.cos(down)],
        )

"""Builds the station: two ViperX arms, table, pads on the fingers, cameras. Tasks add their objects."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import mujoco
import numpy as np

from aloe_core.errors import AloeError
from aloe_sim.kinematics import ARM_JOINTS, ARMS, PINCH
from aloe_sim.meshes import decimate, read_stl

CAMERAS = ("top", "wrist_left", "wrist_right", "front")
GRIPPER_RANGE = (0.017, 0.057)  # m, finger joint: shut, 8 cm open
# Collision bits: an arm meets the world and the other arm, never itself.
WORLD_BIT = 2
ARM_BIT = {"left": 1, "right": 4}
_ALL_BITS = 7
_STIFFNESS = {"waist": 800, "shoulder": 1600, "elbow": 800, "forearm_roll": 200, "wrist_angle": 200, "wrist_rotate": 60}
_FINGER_STIFFNESS = 800  # N/m
_FINGER_SHIFT = 0.0075  # m outwards, so that the pads meet at the lower end of the finger joint
_PAD = np.array([0.016, 0.002, 0.012])  # m, half sizes
_TABLE_SIZE = [0.6096, 0.381, 0.015]  # m, half sizes; its top is z = 0
_TABLE = [0.82, 0.80, 0.75, 1]
_ARM = [0.18, 0.19, 0.21, 1]
_FINGER = {"left": [0.1, 0.45, 0.9, 1], "right": [0.95, 0.6, 0.1, 1]}
_CELL = {"vx300s_7_gripper": 6.0, "vx300s_9_gripper_bar": 8.0}  # mm; others 10


def build(timestep: float) -> mujoco.MjSpec:
    """Return the station without task objects; AloeError if gym-aloha is not installed."""
    folder = _assets()
    spec = mujoco.MjSpec.from_string(_document(folder))
    spec.compiler.inertiagrouprange = [0, 5]
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 5
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 0
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960
    spec.visual.map.znear = 0.01
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.3, 0.3, 0.3]
    spec.visual.headlight.specular = [0, 0, 0]
    _simplify_meshes(spec, folder)
    table = spec.geom("table")
    # A box of the mesh's size: blocks jitter on mesh contacts.
    table.type, table.meshname, table.size = mujoco.mjtGeom.mjGEOM_BOX, "", _TABLE_SIZE
    table.pos = [0, 0, -_TABLE_SIZE[2]]
    table.rgba, table.contype, table.conaffinity = _TABLE, WORLD_BIT, _ALL_BITS
    table.friction = [1.0, 0.01, 0.001]
    for arm in ARMS:
        _arm(spec, arm)
        _fingers(spec, arm)
    _cameras(spec)
    return spec


def _assets() -> Path:
    found = importlib.util.find_spec("gym_aloha")
    if found is None or found.origin is None:
        raise AloeError("The simulator needs the package gym-aloha, which is not installed: pip install gym-aloha.")
    return Path(found.origin).parent / "assets"


def _document(folder: Path) -> str:
    """The arms alone; gym-aloha's own documents bring task objects along."""
    return f"""<mujoco model="aloe_station">
      <compiler meshdir="{folder}"/>
      <include file="{folder}/scene.xml"/>
      <include file="{folder}/vx300s_dependencies.xml"/>
      <worldbody>
        <include file="{folder}/vx300s_left.xml"/>
        <include file="{folder}/vx300s_right.xml"/>
      </worldbody>
    </mujoco>"""


def _simplify_meshes(spec: mujoco.MjSpec, folder: Path) -> None:
    for mesh in list(spec.meshes):
        if mesh.name == "tabletop":
            spec.delete(mesh)
            continue
        vertices, faces = decimate(read_stl(folder / mesh.file), _CELL.get(mesh.name, 10.0))
        mesh.file, mesh.scale = "", [1, 1, 1]
        mesh.uservert, mesh.userface = (vertices * 1e-3).ravel(), faces.ravel()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX  # merged vertices leave small holes


def _arm(spec: mujoco.MjSpec, arm: str) -> None:
    name = f"vx300s_{arm}"
    for body in [spec.body(name), *spec.body(name).find_all("body")]:
        body.gravcomp = 1  # as the servos' own controllers do
        for geom in body.geoms:
            geom.rgba = _ARM
            solid = any(part in geom.name for part in ("forearm", "wrist", "7_gripper", "finger"))
            geom.contype, geom.conaffinity = (ARM_BIT[arm], _ALL_BITS - ARM_BIT[arm]) if solid else (0, 0)
    for short in ARM_JOINTS:
        joint = spec.joint(f"{name}/{short}")
        joint.armature, joint.damping, joint.frictionloss = 0.02, [2.0, 0, 0], 0
        _servo(spec, joint, _STIFFNESS[short], force=300)


def _fingers(spec: mujoco.MjSpec, arm: str) -> None:
    name = f"vx300s_{arm}"
    for side, sign in (("left", 1.0), ("right", -1.0)):
        joint = spec.joint(f"{name}/{side}_finger")
        joint.armature, joint.damping, joint.frictionloss = 0.05, [1.0, 0, 0], 0
        joint.range = sorted(sign * r for r in GRIPPER_RANGE)
        _servo(spec, joint, _FINGER_STIFFNESS, force=12)
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
            contype=ARM_BIT[arm],
            conaffinity=_ALL_BITS - ARM_BIT[arm],
        )
        mesh.rgba = _FINGER[arm]


def _servo(spec: mujoco.MjSpec, joint: mujoco.MjsJoint, stiffness: float, force: float) -> None:
    actuator = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(stiffness, dampratio=1.0)
    actuator.ctrllimited, actuator.ctrlrange = True, joint.range
    actuator.forcelimited, actuator.forcerange = True, [-force, force]


def _cameras(spec: mujoco.MjSpec) -> None:
    for camera in list(spec.cameras):
        spec.delete(camera)
    for light in list(spec.lights):
        spec.delete(light)
    spec.worldbody.add_light(
        name="lamp",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        dir=[0.3, 0.5, -1],
        diffuse=[0.35] * 3,
        specular=[0.1] * 3,
        castshadow=False,
    )
    # Nearly orthographic, 0.46 m of table: a block is 8 pixels wide at 96x96.
    spec.worldbody.add_camera(name="top", pos=[0, 0.535, 1.3], fovy=20.2)
    # For people: recordings, reports.
    spec.worldbody.add_camera(name="front", pos=[0, -0.2, 0.75], fovy=50, xyaxes=[1, 0, 0, 0, 0.68, 0.73])
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.55, 0.62, 0.7],
        rgb2=[0.3, 0.33, 0.38],
        width=16,
        height=16,
    )
    for arm in ARMS:
        gripper = spec.body(f"vx300s_{arm}/gripper_link")
        gripper.add_site(name=f"pinch_{arm}", pos=[PINCH, 0, 0], rgba=[0, 0, 0, 0])
        down = np.arctan2(0.1, 0.19)
        gripper.add_camera(
            name=f"wrist_{arm}",
            pos=[0.02, 0, 0.1],
            fovy=70,
            xyaxes=[0, -1, 0, np.sin(down), 0, np.cos(down)],
        )

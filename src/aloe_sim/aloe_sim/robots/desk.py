"""A desk arm of five joints and a parallel gripper, made of primitives; a camera above the table, one on the wrist."""

from __future__ import annotations

import mujoco
import numpy as np

from aloe_sim.robots.base import Arm, Robot, servo
from aloe_sim.robots.kinematic import kinematic
from aloe_sim.scene import ALL_BITS, ARM_BITS, furnish

_BASE = np.array([0.0, 0.90, 0.0])  # m: at the far edge, facing the operator
_SHOULDER = 0.16  # m over the table
_UPPER, _FORE, _WRIST = 0.36, 0.32, 0.05  # m, shoulder to elbow to wrist_flex to wrist_roll
PINCH = 0.115  # m, wrist_roll to the point between the pads
GRIPPER_RANGE = (0.0, 0.044)  # m, finger joint: shut, 8.8 cm open
_PAD = np.array([0.016, 0.002, 0.012])  # m, half sizes
# Joint: axis, range (rad), servo stiffness (N·m/rad). Bent down is positive from the elbow on, up at the shoulder.
_JOINTS = {
    "base_yaw": ([0, 0, 1], (-2.6, 2.6), 800),
    "shoulder_lift": ([0, -1, 0], (-0.3, 2.6), 1600),
    "elbow_flex": ([0, 1, 0], (0.0, 2.7), 800),
    "wrist_flex": ([0, 1, 0], (-1.9, 1.9), 200),
    "wrist_roll": ([1, 0, 0], (-2.9, 2.9), 60),
}
_FINGERS = ("finger_far", "finger_near")
_BIT = ARM_BITS[0]
_LIMB = [0.88, 0.88, 0.86, 1]
_CASING = [0.24, 0.25, 0.28, 1]
_FINGER = [0.1, 0.6, 0.55, 1]


class Desk(Robot):
    """A single arm on servos that carry their own weight."""

    name = "desk"
    arms = {  # noqa: RUF012
        "arm": Arm(
            name="arm",
            joints=tuple(_JOINTS),
            fingers=_FINGERS,
            finger_bodies=_FINGERS,
            pinch="pinch",
            base=_BASE,
            reach=0.64,
        )
    }
    joints = {**{name: name for name in _JOINTS}, "gripper": _FINGERS[0]}  # noqa: RUF012
    cameras = ("overhead", "wrist", "front")
    # Pinch point 0.24 m from the base, 0.24 m up, gripper pointing down, fingers opening along the arm.
    home = {  # noqa: RUF012
        "base_yaw": 0.0,
        "shoulder_lift": 1.7398,
        "elbow_flex": 2.0903,
        "wrist_flex": 1.2203,
        "wrist_roll": 0.0,
        "gripper": 0.042,
    }
    open_gripper = 0.042
    shut_gripper = GRIPPER_RANGE[0]

    def build(self, timestep: float) -> mujoco.MjSpec:
        spec = mujoco.MjSpec()
        spec.modelname = "aloe_station"
        spec.compiler.degree = False
        furnish(spec, timestep)
        _arm(spec)
        # From before the table, over the arm's working area: the arm itself hides little.
        away, up = 0.57, 1.0
        spec.worldbody.add_camera(name="overhead", pos=[0, -0.04, up], fovy=29, xyaxes=[1, 0, 0, 0, up, away])
        return spec


def kinematic_model() -> mujoco.MjModel:
    """What a contract's `model.module` names; see `aloe_sim.robots.kinematic`."""
    return kinematic(Desk())


def _arm(spec: mujoco.MjSpec) -> None:
    base = spec.worldbody.add_body(name="base", pos=_BASE, quat=[np.sqrt(0.5), 0, 0, -np.sqrt(0.5)])
    _solid(base, mujoco.mjtGeom.mjGEOM_CYLINDER, [0.06, 0.05, 0], [0, 0, 0.05], _CASING, collides=False)
    yaw = _link(spec, base, "base_yaw", [0, 0, 0.10])
    _solid(yaw, mujoco.mjtGeom.mjGEOM_CYLINDER, [0.05, 0.03, 0], [0, 0, 0.03], _LIMB, collides=False)
    upper = _link(spec, yaw, "shoulder_lift", [0, 0, _SHOULDER - 0.10])
    _limb(upper, _UPPER, 0.032, collides=False)
    fore = _link(spec, upper, "elbow_flex", [_UPPER, 0, 0])
    _limb(fore, _FORE, 0.026, collides=True)
    wrist = _link(spec, fore, "wrist_flex", [_FORE, 0, 0])
    _limb(wrist, _WRIST, 0.024, collides=True)
    hand = _link(spec, wrist, "wrist_roll", [_WRIST, 0, 0])
    _solid(hand, mujoco.mjtGeom.mjGEOM_BOX, [0.018, 0.022, 0.055], [0.018, 0, 0], _CASING, collides=True)
    # The fingers open up and down, not sideways, at wrist_roll 0.
    tool = hand.add_body(name="tool", quat=[np.sqrt(0.5), np.sqrt(0.5), 0, 0], gravcomp=1)
    tool.add_site(name="pinch", pos=[PINCH, 0, 0], rgba=[0, 0, 0, 0])
    down = np.arctan2(0.09, 0.15)
    tool.add_camera(name="wrist", pos=[0.0, 0, 0.09], fovy=70, xyaxes=[0, -1, 0, np.sin(down), 0, np.cos(down)])
    for name, sign in zip(_FINGERS, (1.0, -1.0), strict=True):
        _finger(spec, tool, name, sign)


def _link(spec: mujoco.MjSpec, parent: mujoco.MjsBody, name: str, pos: list[float]) -> mujoco.MjsBody:
    axis, limits, stiffness = _JOINTS[name]
    body = parent.add_body(name=name, pos=pos, gravcomp=1)  # servos' own controllers do that
    joint = body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=axis, range=limits, armature=0.02)
    joint.limited, joint.damping = True, [2.0, 0, 0]
    servo(spec, joint, stiffness, force=300)
    return body


def _finger(spec: mujoco.MjSpec, tool: mujoco.MjsBody, name: str, sign: float) -> None:
    body = tool.add_body(name=name, gravcomp=1)
    limits = sorted(sign * r for r in GRIPPER_RANGE)
    joint = body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, 1, 0], range=limits, armature=0.05)
    joint.limited, joint.damping = True, [1.0, 0, 0]
    servo(spec, joint, 800, force=12)
    box = mujoco.mjtGeom.mjGEOM_BOX
    _solid(body, box, [0.045, 0.006, 0.011], [0.082, sign * (2 * _PAD[1] + 0.006), 0], _FINGER, collides=True)
    body.add_geom(
        name=f"{name}_pad",
        type=box,
        size=_PAD,
        pos=[PINCH, sign * _PAD[1], 0],
        rgba=_FINGER,
        friction=[1.5, 0.02, 0.001],
        condim=4,
        solref=[0.006, 1],
        priority=1,  # stiff against whatever it closes on
        mass=0.002,
        contype=_BIT,
        conaffinity=ALL_BITS - _BIT,
    )


def _limb(body: mujoco.MjsBody, length: float, radius: float, collides: bool) -> None:
    along = [length / 2, 0, 0]
    _solid(body, mujoco.mjtGeom.mjGEOM_BOX, [length / 2, radius * 0.8, radius], along, _LIMB, collides)
    _solid(body, mujoco.mjtGeom.mjGEOM_CYLINDER, [radius * 1.3, radius * 1.1, 0], [0, 0, 0], _CASING, collides)


def _solid(
    body: mujoco.MjsBody, kind: mujoco.mjtGeom, size: list[float], pos: list[float], rgba: list[float], collides: bool
) -> None:
    sideways = kind == mujoco.mjtGeom.mjGEOM_CYLINDER and body.name not in ("base", "base_yaw")
    body.add_geom(
        type=kind,
        size=size,
        pos=pos,
        quat=[np.sqrt(0.5), np.sqrt(0.5), 0, 0] if sideways else [1, 0, 0, 0],
        rgba=rgba,
        density=800,
        contype=_BIT if collides else 0,
        conaffinity=ALL_BITS - _BIT if collides else 0,
    )

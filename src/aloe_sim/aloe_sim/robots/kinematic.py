"""A simulated robot as a contract's model: joints by the contract's names, everything on an arm keeps its distance."""

from __future__ import annotations

import mujoco

from aloe_sim.robots.base import Robot


def kinematic(robot: Robot) -> mujoco.MjModel:
    """Return the robot on its table, without task objects; the second finger of a gripper follows the first."""
    spec = robot.build(0.002)
    for actuator in list(spec.actuators):
        spec.delete(actuator)  # they would name joints by their old names
    names = {mjcf: name for name, mjcf in robot.joints.items()}
    for arm in robot.arms.values():
        root = spec.joint(arm.joints[0]).parent
        for body in [root, *root.find_all("body")]:
            for geom in body.geoms:
                geom.contype = geom.conaffinity = 1  # physics spares what never meets; distance counts all
        first, second = arm.fingers
        mirror = spec.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, objtype=mujoco.mjtObj.mjOBJ_JOINT)
        mirror.name1, mirror.name2 = second, names[first]
        mirror.data[:5] = [0, -1, 0, 0, 0]
    for mjcf, name in names.items():
        spec.joint(mjcf).name = name
    return spec.compile()

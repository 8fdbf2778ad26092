"""What every station has: table, lights, sky, the camera for people, and who collides with whom."""

from __future__ import annotations

import mujoco

# Collision bits: an arm meets the world and other arms, never itself. Cloth has its own (see its task).
WORLD_BIT = 2
ARM_BITS = (1, 4)
ALL_BITS = 7
CLOTH_BIT = 8
TABLE_SIZE = (0.6096, 0.381, 0.015)  # m, half sizes; its top is z = 0
TABLE_CENTRE = (0.0, 0.6)  # m
_TABLE = [0.82, 0.80, 0.75, 1]


def furnish(spec: mujoco.MjSpec, timestep: float) -> None:
    """Set physics and rendering options and add all but robot and task to an otherwise empty `spec`."""
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
    table = spec.worldbody.add_body(name="table", pos=[*TABLE_CENTRE, 0])
    table.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,  # a box, not gym-aloha's mesh: blocks jitter on mesh contacts
        size=TABLE_SIZE,
        pos=[0, 0, -TABLE_SIZE[2]],
        rgba=_TABLE,
        contype=WORLD_BIT,
        conaffinity=ALL_BITS,
        friction=[1.0, 0.01, 0.001],
        # Stiffer than the default 0.02 s, whatever lands on it: a dropped block sank in by 8 mm, now by 3.
        solref=[0.006, 1],
        solmix=1000,
    )
    spec.worldbody.add_light(
        name="lamp",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        dir=[0.3, 0.5, -1],
        diffuse=[0.35] * 3,
        specular=[0.1] * 3,
        castshadow=False,
    )
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.55, 0.62, 0.7],
        rgb2=[0.3, 0.33, 0.38],
        width=16,
        height=16,
    )
    # For people: recordings, reports.
    spec.worldbody.add_camera(name="front", pos=[0, -0.12, 0.72], fovy=42, xyaxes=[1, 0, 0, 0, 0.7, 0.714])

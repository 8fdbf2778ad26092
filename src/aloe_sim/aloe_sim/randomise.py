"""Domain randomisation: another look and feel of the same start state, drawn from the seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mujoco
import numpy as np

from aloe_core.errors import AloeError
from aloe_sim.scene import CLOTH_BIT, TABLE_CENTRE

_STREAM = 0xD0  # keeps these draws apart from the task's, which get the same seed
_PIXELS = 128
_DEFAULT = np.array([0.5, 0.5, 0.5, 1.0])  # colour of a geom that has none of its own
_PATTERNS = ("speckle", "wood", "stripes", "checks")
_ROOM = 2.0  # m from the table's centre to the walls
_FLOOR = -0.75  # m
_BACKDROP = ("floor", "wall_left", "wall_right", "wall_near", "wall_far")
_GREY = [0.45, 0.5, 0.56, 1]  # as the sky
_EXTENT = 1.5  # m; clipping planes scale with it and should not see the walls


@dataclass(frozen=True)
class Spread:
    """How far things go from nominal, either way."""

    light: float  # fraction, of ambient and direct light
    lamp: float  # of the direction the light comes from, rad about
    brightness: float  # fraction, one body at a time; hue stays, since instructions name colours
    tint: float  # of table and background: 0 nominal, 1 any pale colour
    patterns: int  # textures that table and background may have, besides none
    shift: float  # m, of a camera
    turn: float  # of a camera, share of its field of view
    view: float  # fraction, of a camera's field of view
    friction: float  # fraction, of items and pads


SPREADS = {
    "low": Spread(0.15, 0.15, 0.06, 0.25, 1, 0.002, 0.01, 0.01, 0.1),
    "high": Spread(0.40, 0.50, 0.15, 1.00, 4, 0.006, 0.04, 0.05, 0.3),
}
LEVELS = ("none", *SPREADS)


def check_level(level: str) -> None:
    """AloeError for a level of randomisation that does not exist."""
    if level not in LEVELS:
        raise AloeError(f"Unknown randomisation {level!r}: expected one of {', '.join(LEVELS)}.")


def add_backdrop(spec: mujoco.MjSpec) -> None:
    """Add a floor and walls, which collide with nothing, and the textures to choose from; all compiled in advance."""
    rng = np.random.default_rng(0)
    for name in _PATTERNS:
        texture = spec.add_texture(
            name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=_PIXELS, height=_PIXELS, nchannel=3
        )
        grey = np.clip(_pattern(name, rng) * 255, 0, 255).astype(np.uint8)
        texture.data = np.repeat(grey[..., None], 3, axis=2).tobytes()
        material = spec.add_material(name=name, texuniform=True, texrepeat=[4, 4])
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    far, thin = _ROOM, 0.01
    centre = np.array([*TABLE_CENTRE, _FLOOR])
    shapes = (
        ([far, far, thin], [0, 0, 0]),
        ([thin, far, far], [-far, 0, far]),
        ([thin, far, far], [far, 0, far]),
        ([far, thin, far], [0, -far, far]),
        ([far, thin, far], [0, far, far]),
    )
    for name, (size, pos) in zip(_BACKDROP, shapes, strict=True):
        # Not in a body of their own, which would make the physics state larger than that of a mirror.
        spec.worldbody.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=size,
            pos=centre + pos,
            rgba=_GREY,
            contype=0,
            conaffinity=0,
        )
    spec.stat.extent = _EXTENT


class Randomiser:
    """Varies a compiled model about the values it has when this is made; physics state is left alone."""

    def __init__(self, model: mujoco.MjModel, level: str, items: Iterable[str], pads: Iterable[str], cameras) -> None:
        """`items` and `pads` are bodies whose friction varies, `cameras` those that move; `level` low or high."""
        self._model = model
        self._spread = SPREADS[level]
        self._cameras = [model.camera(name).id for name in cameras]
        bodies = [model.body(name).id for name in (*items, *pads)]
        self._gripping = np.flatnonzero(np.isin(model.geom_bodyid, bodies))
        self._table = model.geom("table").id
        self._floor, *self._walls = (model.geom(name).id for name in _BACKDROP)
        own = {model.material(name).id for name in _PATTERNS}
        self._materials = [i for i in range(model.nmat) if i not in own]
        self._textures = [model.material(name).id for name in _PATTERNS]
        scenery = {self._table, self._floor, *self._walls}
        self._coloured: dict[int, list[int]] = {}  # geoms by what they belong to
        for geom in range(model.ngeom):
            # The default colour means: that of the material.
            if geom not in scenery and (model.geom_matid[geom] < 0 or (model.geom_rgba[geom] != _DEFAULT).any()):
                self._coloured.setdefault(int(model.body_rootid[model.geom_bodyid[geom]]), []).append(geom)
        self._flexes = np.flatnonzero((model.flex_matid < 0) | (model.flex_rgba != _DEFAULT).any(axis=1))
        self._cloth = np.flatnonzero(model.geom_contype & CLOTH_BIT)
        self._nominal = [(field, field.copy()) for field in self._fields()]

    def restore(self) -> None:
        """Return to nominal, so that draws never add up and the start state settles as without randomisation."""
        for field, nominal in self._nominal:
            field[:] = nominal

    def draw(self, seed: int) -> None:
        """Vary everything, once, about what it is now."""
        rng = np.random.default_rng([seed, _STREAM])
        self._light(rng)
        self._colours(rng)
        for camera in self._cameras:
            self._move(camera, rng)
        self._frictions(rng)

    def _fields(self) -> list[np.ndarray]:
        m, lamp = self._model, self._model.vis.headlight
        return [
            *(lamp.ambient, lamp.diffuse, m.light_dir, m.light_diffuse),
            *(m.geom_rgba, m.geom_matid, m.mat_rgba, m.flex_rgba),
            *(m.cam_pos, m.cam_quat, m.cam_fovy, m.geom_friction),
        ]

    def _light(self, rng: np.random.Generator) -> None:
        model, spread = self._model, self._spread
        model.vis.headlight.ambient[:] *= 1 + spread.light * rng.uniform(-1, 1)
        model.vis.headlight.diffuse[:] *= 1 + spread.light * rng.uniform(-1, 1)
        for light in range(model.nlight):
            # Warm to cold: red and blue go opposite ways.
            warmth = 0.3 * spread.light * rng.uniform(-1, 1)
            strength = 1 + spread.light * rng.uniform(-1, 1)
            model.light_diffuse[light] *= strength * np.array([1 + warmth, 1, 1 - warmth])
            direction = model.light_dir[light] + rng.uniform(-1, 1, 3) * [spread.lamp, spread.lamp, 0]
            model.light_dir[light] = direction / np.linalg.norm(direction)

    def _colours(self, rng: np.random.Generator) -> None:
        model, spread = self._model, self._spread
        for geoms in self._coloured.values():
            _brighten(model.geom_rgba, geoms, 1 + spread.brightness * rng.uniform(-1, 1))
        for rgba, rows in ((model.mat_rgba, self._materials), (model.flex_rgba, self._flexes)):
            for row in rows:
                _brighten(rgba, [row], 1 + spread.brightness * rng.uniform(-1, 1))
        self._paint([self._table], rng)
        self._paint([self._floor], rng)
        self._paint(self._walls, rng)

    def _paint(self, geoms: list[int], rng: np.random.Generator) -> None:
        """Give table, floor or walls a pale colour, so that items stand out, and perhaps a texture."""
        model, spread = self._model, self._spread
        pale = rng.uniform(0.55, 0.95) * (1 - 0.3 * rng.uniform(0, 1, 3))
        choice = int(rng.integers(-1, spread.patterns))
        for geom in geoms:
            model.geom_rgba[geom, :3] += spread.tint * (pale - model.geom_rgba[geom, :3])
            model.geom_matid[geom] = self._textures[choice] if choice >= 0 else -1

    def _move(self, camera: int, rng: np.random.Generator) -> None:
        model, spread = self._model, self._spread
        model.cam_pos[camera] += spread.shift * rng.uniform(-1, 1, 3)
        angles = np.deg2rad(model.cam_fovy[camera]) * spread.turn * rng.uniform(-1, 1, 3)
        turned, quaternion = np.empty(4), np.empty(4)
        mujoco.mju_euler2Quat(quaternion, angles, "xyz")
        mujoco.mju_mulQuat(turned, model.cam_quat[camera], quaternion)
        model.cam_quat[camera] = turned
        model.cam_fovy[camera] *= 1 + spread.view * rng.uniform(-1, 1)

    def _frictions(self, rng: np.random.Generator) -> None:
        model, spread = self._model, self._spread
        factor = dict.fromkeys(np.unique(model.geom_bodyid[self._gripping]).tolist(), 1.0)
        for body in factor:
            factor[body] = 1 + spread.friction * rng.uniform(-1, 1)
        for geom in self._gripping:
            model.geom_friction[geom] *= factor[int(model.geom_bodyid[geom])]
        # A cloth slides on geoms of its own, of which there are many but only one cloth.
        model.geom_friction[self._cloth] *= 1 + spread.friction * rng.uniform(-1, 1)


def _brighten(rgba: np.ndarray, rows: list[int], factor: float) -> None:
    """Scale colours, all channels alike; none may clip, which would change the hue."""
    most = max(float(rgba[row, :3].max()) for row in rows)
    rgba[rows, :3] *= min(factor, 1 / max(most, 1e-6))


def _pattern(name: str, rng: np.random.Generator) -> np.ndarray:
    """Return brightness, [pixels, pixels], about 0.6 to 1, to be multiplied with a colour."""
    y, x = np.mgrid[:_PIXELS, :_PIXELS] / _PIXELS
    noise = rng.uniform(-1, 1, (_PIXELS, _PIXELS))
    if name == "speckle":
        return 0.88 + 0.12 * noise
    if name == "wood":
        wave = np.sin(2 * np.pi * (8 * x + 0.6 * np.sin(2 * np.pi * y) + 0.3 * np.sin(4 * np.pi * (x + y))))
        return 0.85 + 0.12 * wave + 0.03 * noise
    if name == "stripes":
        return 0.85 + 0.12 * np.sign(np.sin(2 * np.pi * 4 * y)) + 0.02 * noise
    return 0.85 + 0.12 * np.sign(np.sin(2 * np.pi * 3 * x) * np.sin(2 * np.pi * 3 * y)) + 0.02 * noise

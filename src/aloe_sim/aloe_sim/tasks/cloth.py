"""A square cloth: a MuJoCo flex of point masses, and the hands that pinch it.

The flex keeps the edges' lengths and is drawn. It does not collide: MuJoCo keeps at most 50 contacts of a pair, so part
of a larger flex would sink into the table. Instead each vertex carries a ball, which rests on the table, and a flat
tile, on which the balls of the layers above rest; vertices only slide, so tiles stay level.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from aloe_sim.robots.base import Robot
from aloe_sim.scene import CLOTH_BIT
from aloe_sim.tasks.base import Scene

COUNT = 9  # vertices a side; odd, so that there is a row to fold along
BALL = 0.002  # m, radius
LAYER = 0.0035  # m, from one layer to the next
TIP = 0.014  # m, from the point between the pads to where cloth is pinched
REACH = np.array(
    [0.012, 0.015, 0.012]
)  # m, half axes about the tip in the hand's frame, within which fingers take cloth
SHUT = 0.004  # m over shut at which closing fingers take what is between them
LET_GO = 0.008  # m over shut at which they have let go
CLOSING = 0.01  # m/s of a finger: one that rests shut takes nothing
SLIP = 1.5  # N on one vertex that two fingers can hold
_CORNERS = (0, COUNT - 1, COUNT * (COUNT - 1), COUNT**2 - 1)
_LAYER_BIT = 16
_MASS = 0.12  # kg
FRICTION = [1.2, 0.005, 0.0001]  # sliding, spinning, rolling
_WEAVE = [0.01, 1]  # solref of the edges: at 2 N a corner stretches by a few per cent
_DRAG = 0.003  # N s/m a vertex, of the air
_GROUP = 4  # of what is not drawn


@dataclass(frozen=True)
class Cloth:
    """One square cloth, `name`, `size` m a side; vertex [i, j] lies i along its own x axis and j along its y axis."""

    name: str
    size: float

    @property
    def spacing(self) -> float:
        """From one vertex to the next, m."""
        return self.size / (COUNT - 1)

    def add(self, spec: mujoco.MjSpec, texture: np.ndarray, robot: Robot) -> None:
        """Add the cloth and, switched off, every hand's grasp of every vertex; `texture` uint8 [h, w, 3] RGB."""
        spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL  # three times as fast while it is folded
        spec.geom("table").conaffinity |= CLOTH_BIT
        for body, place in zip(self._bodies, self._grid(), strict=True):
            self._add_vertex(spec, body, place)
        self._add_flex(spec, texture)
        for arm in robot.arms.values():
            pinch = spec.site(arm.pinch)
            pinch.parent.add_site(name=_tip(arm.name), pos=pinch.pos + np.array([TIP, 0, 0]), rgba=[0, 0, 0, 0])
            for body in self._bodies:
                spec.add_equality(
                    name=f"{arm.name}_{body}",
                    type=mujoco.mjtEq.mjEQ_CONNECT,
                    objtype=mujoco.mjtObj.mjOBJ_SITE,
                    name1=_tip(arm.name),
                    name2=body,
                    active=False,
                    solref=[0.03, 1],  # no snap: what is taken a centimetre off comes within 0.1 s
                    solimp=[0.9, 0.99, 0.005, 0.5, 2],
                )

    def vertices(self, scene: Scene) -> np.ndarray:
        """Return where the vertices are, [COUNT, COUNT, 3], m."""
        return scene.data.xpos[self._first_body(scene.model) + np.arange(COUNT**2)].reshape(COUNT, COUNT, 3)

    def speed(self, scene: Scene) -> float:
        """Return the speed of the fastest vertex, m/s."""
        start = scene.model.jnt_dofadr[scene.model.body_jntadr[self._first_body(scene.model)]]
        return float(np.linalg.norm(scene.data.qvel[start : start + 3 * COUNT**2].reshape(-1, 3), axis=1).max())

    def put(self, model: mujoco.MjModel, data: mujoco.MjData, places: np.ndarray) -> None:
        """Move the vertices to `places` [COUNT, COUNT, 3], m."""
        first = self._first_body(model)
        start = model.jnt_qposadr[model.body_jntadr[first]]
        offsets = places.reshape(-1, 3) - model.body_pos[first : first + COUNT**2]
        data.qpos[start : start + 3 * COUNT**2] = offsets.ravel()

    def flat(self, centre: np.ndarray, yaw: float) -> np.ndarray:
        """Return the vertices' places, [COUNT, COUNT, 3], m, when it lies spread on the table about `centre` [2]."""
        turned = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        grid = self._grid()
        grid[:, :2] = grid[:, :2] @ turned + centre
        return grid.reshape(COUNT, COUNT, 3)

    # --- hands -------------------------------------------------------------------------------------------------

    def tip(self, scene: Scene, arm: str) -> np.ndarray:
        """Return where the arm's fingers would pinch, [3], m."""
        hand = scene.hand(arm)
        return hand.point + TIP * hand.rotation[:, 0]

    def held(self, scene: Scene, arm: str) -> np.ndarray:
        """Return which vertices the arm holds, bool [COUNT, COUNT]."""
        return self._grasps(scene, arm).astype(bool).reshape(COUNT, COUNT)

    def interact(self, scene: Scene) -> None:
        """Let fingers that close take what is between them, those that open let go, and what pulls too hard slip."""
        for arm in scene.robot.arms:
            grasps = self._grasps(scene, arm)
            open_by = scene.opening(arm) - scene.robot.shut_gripper
            closing = scene.data.joint(scene.robot.arms[arm].fingers[0]).qvel[0] < -CLOSING
            if open_by > LET_GO:
                grasps[:] = 0
            elif open_by < SHUT and closing:
                grasps[self._within_reach(scene, arm)] = 1
        if any(self._grasps(scene, arm).any() for arm in scene.robot.arms):
            self._slip(scene)

    def _slip(self, scene: Scene) -> None:
        model, data = scene.model, scene.data
        mujoco.mj_forward(model, data)  # forces of this state, whether it was stepped to or restored
        equality = data.efc_type == mujoco.mjtConstraint.mjCNSTR_EQUALITY
        for arm in scene.robot.arms:
            number = data.efc_id - model.equality(f"{arm}_{self._bodies[0]}").id
            rows = equality & (number >= 0) & (number < COUNT**2)
            forces = np.linalg.norm(data.efc_force[rows].reshape(-1, 3), axis=1)
            self._grasps(scene, arm)[number[rows][::3][forces > SLIP]] = 0

    def _within_reach(self, scene: Scene, arm: str) -> list[int]:
        """Return the vertices between the fingers, one of each layer: a corner, else the nearest; others are slack."""
        offsets = (self.vertices(scene).reshape(-1, 3) - self.tip(scene, arm)) @ scene.hand(arm).rotation
        distances = np.linalg.norm(offsets / REACH, axis=1)
        order = [v for v in np.argsort(distances, kind="stable") if distances[v] < 1]
        taken: list[int] = []
        for vertex in sorted(order, key=lambda v: v not in _CORNERS):
            here = np.array(divmod(vertex, COUNT))
            if all(np.abs(here - divmod(other, COUNT)).max() > COUNT // 2 for other in taken):
                taken.append(int(vertex))
        return taken

    def _grasps(self, scene: Scene, arm: str) -> np.ndarray:
        first = scene.model.equality(f"{arm}_{self._bodies[0]}").id
        return scene.data.eq_active[first : first + COUNT**2]

    # --- building ----------------------------------------------------------------------------------------------

    @property
    def _bodies(self) -> list[str]:
        return [f"{self.name}_{i}_{j}" for i in range(COUNT) for j in range(COUNT)]

    def _first_body(self, model: mujoco.MjModel) -> int:
        return model.body(f"{self.name}_0_0").id

    def _grid(self) -> np.ndarray:
        steps = (np.arange(COUNT) - (COUNT - 1) / 2) * self.spacing
        return np.array([[x, y, BALL] for x in steps for y in steps])

    def _add_vertex(self, spec: mujoco.MjSpec, name: str, place: np.ndarray) -> None:
        body = spec.worldbody.add_body(name=name, pos=place, gravcomp=0)
        body.mass, body.inertia, body.explicitinertial = _MASS / COUNT**2, [1e-6] * 3, True
        for axis in np.eye(3):
            body.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis, damping=[_DRAG, 0, 0])
        body.add_site(name=name, rgba=[0, 0, 0, 0])
        hidden = {"mass": 0, "rgba": [0, 0, 0, 0], "group": _GROUP, "friction": FRICTION, "priority": 1}
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[BALL, 0, 0],
            contype=CLOTH_BIT | _LAYER_BIT,
            conaffinity=0,
            **hidden,
        )
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[self.spacing / 2, self.spacing / 2, LAYER - BALL],
            contype=0,
            conaffinity=_LAYER_BIT,
            **hidden,
        )

    def _add_flex(self, spec: mujoco.MjSpec, texture: np.ndarray) -> None:
        height, width, _ = texture.shape
        picture = spec.add_texture(name=self.name, type=mujoco.mjtTexture.mjTEXTURE_2D)
        picture.width, picture.height, picture.nchannel = width, height, 3
        picture.data = texture.tobytes()
        material = spec.add_material(name=self.name, specular=0.0, shininess=0.0)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = self.name
        flex = spec.add_flex(name=self.name, dim=2, radius=0.4 * LAYER, contype=0, conaffinity=0, internal=False)
        flex.vertbody = self._bodies
        flex.material = self.name
        triangles: list[int] = []
        for i in range(COUNT - 1):
            for j in range(COUNT - 1):
                a, b, c, d = ((i + u) * COUNT + j + v for u, v in ((0, 0), (1, 0), (1, 1), (0, 1)))
                # Diagonals alternate, so that no direction is stiffer than the other.
                triangles += [a, b, c, a, c, d] if (i + j) % 2 == 0 else [a, b, d, b, c, d]
        flex.elem = triangles
        steps = np.linspace(0, 1, COUNT)
        flex.texcoord = [t for x in steps for y in steps for t in (x, 1 - y)]
        spec.add_equality(
            name=self.name,
            type=mujoco.mjtEq.mjEQ_FLEX,
            objtype=mujoco.mjtObj.mjOBJ_FLEX,
            name1=self.name,
            active=True,
            solref=_WEAVE,
        )


def _tip(arm: str) -> str:
    return f"tip_{arm}"

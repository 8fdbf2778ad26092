"""Phone packing: one hand holds the tray by its handle, the other puts the phone into it."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from aloe_core.rotations import quaternion_from_euler
from aloe_sim.kinematics import Pose
from aloe_sim.robots.base import Robot
from aloe_sim.scene import ALL_BITS, WORLD_BIT
from aloe_sim.tactics import grip_for
from aloe_sim.tasks.base import Intention, Scene, Tactic, Task, free_box
from aloe_sim.tasks.insertion import (
    FIRM,
    STIFF,
    Fit,
    Inserter,
    Pocket,
    across,
    ahead_of,
    fallen_over,
    fit,
    grasp,
    let_go,
    lost,
    nearness,
    pose,
    up,
)

HOLDER, INSERTER = "left", "right"
FLOOR, DEPTH, WALL, CHAMFER = 0.003, 0.011, 0.007, (0.005, 0.006)  # m, see Pocket
NOTCH = 0.026  # m, half length of the gaps for the fingers
HANDLE = np.array([0.006, 0.016, 0.015])  # m, half sizes
HANDLE_AHEAD = 0.045  # m from the pocket's end wall to the middle of the handle
# A sprung plate at the handle's end, which the phone must push back to get in: a tray that is not held slides away.
PLATE, PLATE_HEIGHT = 0.002, 0.038  # m, half thickness, height over the floor
PUSH = 0.010  # m
PUSH_FORCE, PUSH_STIFFNESS = 2.0, 150.0  # N at rest, N/m
GRASP_ABOVE = 0.013  # m, pinch point over the middle of the phone
IN_THE_WAY = 0.14  # m, from the handle to a phone on the table
CROWDED = 0.095  # m, from the middle of the tray to that of a phone on the table
SEATED = 0.0015  # m over the floor
FLAT = 0.035  # rad
PHRASES = (
    "put the phone into the tray",
    "hold the tray and place the phone in it",
    "pack the phone into its tray",
    "pick up the phone and fit it into the tray while holding the tray still",
)


@dataclass(frozen=True)
class Look:
    """What the objects of a variant are like."""

    phone: tuple[float, float, float]  # m, half sizes
    phone_colour: list[float]
    screen_colour: list[float]
    wall_colour: list[float]
    floor_colour: list[float]
    plate_colour: list[float]


LOOKS = {
    "train": Look(
        (0.026, 0.058, 0.006),
        [0.08, 0.08, 0.1, 1],
        [0.1, 0.65, 0.8, 1],
        [0.75, 0.2, 0.15, 1],
        [0.45, 0.1, 0.1, 1],
        [0.95, 0.75, 0.1, 1],
    ),
    "held_out": Look(
        (0.028, 0.054, 0.0065),
        [0.85, 0.85, 0.9, 1],
        [0.6, 0.15, 0.6, 1],
        [0.1, 0.45, 0.2, 1],
        [0.05, 0.25, 0.1, 1],
        [0.9, 0.4, 0.6, 1],
    ),
}


@dataclass(frozen=True)
class Starts:
    """Ranges of the start states: low, high."""

    clearance: float  # m in all, length and width
    tray_x: tuple[float, float]
    tray_y: tuple[float, float]
    phone_x: tuple[float, float]
    phone_y: tuple[float, float]
    yaw: tuple[float, float]  # rad, either way, of both


STARTS = {
    ("easy", "train"): Starts(0.002, (-0.05, -0.03), (0.59, 0.61), (0.12, 0.15), (0.5, 0.56), (0.0, 0.06)),
    ("easy", "held_out"): Starts(0.002, (-0.07, -0.05), (0.61, 0.63), (0.15, 0.17), (0.46, 0.5), (0.06, 0.12)),
    ("full", "train"): Starts(0.0013, (-0.08, -0.02), (0.57, 0.64), (0.11, 0.16), (0.44, 0.6), (0.0, 0.3)),
    ("full", "held_out"): Starts(0.0013, (-0.1, -0.08), (0.57, 0.65), (0.11, 0.17), (0.42, 0.6), (0.3, 0.42)),
}


class PhonePacking(Task):
    """The left hand holds the tray, which slides on the table, by its handle; the right one packs the phone.

    `easy`: 2 mm clearance, both within 1 to 1.5 cm and 3.5 degrees of their usual places.
    `full`: 1.3 mm clearance, both anywhere on their half of the table, yaw up to 17 degrees either way.
    `held_out`: other sizes and colours, places and yaws beyond those of `train`.
    """

    levels = ("easy", "full")
    arms = 2
    items = ("phone", "tray")
    time_limit = 12.0

    def __init__(self, level: str, variant: str) -> None:
        super().__init__(level, variant)
        self.look, self.starts = LOOKS[variant], STARTS[level, variant]
        self.phone = np.array(self.look.phone)
        self.pocket = Pocket(
            inner=self.phone[:2] + self.starts.clearance / 2 + [0, PLATE],
            floor=FLOOR,
            depth=DEPTH,
            wall=WALL,
            chamfer=CHAMFER,
            notch=NOTCH,
        )
        # In the tray's frame.
        self.handle = np.array([0, -self.pocket.inner[1] - WALL - HANDLE_AHEAD, 0.020])
        self.seat = np.array([0, PLATE, FLOOR + self.phone[2]])

    def build(self, spec: mujoco.MjSpec, robot: Robot) -> None:
        tray = spec.worldbody.add_body(name="tray", pos=[-0.05, 0.55, 0])
        # Without damping an arm that beats on the tray's thin walls makes its acceleration grow beyond all bounds.
        tray.add_joint(name="tray", type=mujoco.mjtJoint.mjJNT_FREE, damping=[0.005, 0, 0])
        self.pocket.build(tray, self.look.wall_colour, self.look.floor_colour, mass=0.2)
        box = mujoco.mjtGeom.mjGEOM_BOX
        solid = {"contype": WORLD_BIT, "conaffinity": ALL_BITS, "rgba": self.look.wall_colour, "mass": 0.01}
        grip = {"friction": [1.0, 0.01, 0.001], "condim": 4, **FIRM}
        tray.add_geom(type=box, size=HANDLE, pos=[0, self.handle[1], HANDLE[2]], **(solid | grip))
        bridge = (HANDLE_AHEAD - HANDLE[1]) / 2
        behind = self.handle[1] + HANDLE[1] + bridge
        tray.add_geom(type=box, size=[HANDLE[0], bridge, 0.004], pos=[0, behind, 0.004], **(solid | STIFF))
        self._plate(spec, tray)
        phone = free_box(spec, "phone", self.phone, self.look.phone_colour, mass=0.12, **FIRM)
        screen = [0.88 * self.phone[0], 0.86 * self.phone[1], 0.0003]
        phone.add_geom(
            type=box,
            size=screen,
            pos=[0, 0, self.phone[2]],
            rgba=self.look.screen_colour,
            mass=0,
            contype=0,
            conaffinity=0,
        )

    def _plate(self, spec: mujoco.MjSpec, tray: mujoco.MjsBody) -> None:
        """Add the sprung plate; when it is all the way back, the phone still has its clearance."""
        # At rest it stands PUSH away from the wall, less its own thickness.
        rest = -self.pocket.inner[1] + PUSH + PLATE
        plate = tray.add_body(name="plate", pos=[0, rest, FLOOR + 0.001 + PLATE_HEIGHT / 2])
        plate.add_joint(
            name="plate",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, -1, 0],
            range=[0, PUSH],
            limited=True,
            stiffness=PUSH_STIFFNESS,
            springref=-PUSH_FORCE / PUSH_STIFFNESS,
            damping=4,
            armature=0.03,
            solref_limit=STIFF["solref"],
        )
        plate.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[self.pocket.inner[0] - 0.004, PLATE, PLATE_HEIGHT / 2],
            rgba=self.look.plate_colour,
            mass=0.01,
            friction=[0.3, 0.01, 0.001],
            contype=WORLD_BIT,
            conaffinity=ALL_BITS,
            **STIFF,
        )
        spec.add_exclude(bodyname1="tray", bodyname2="plate")

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> str:
        starts = self.starts
        for item, xs, ys, z in (
            ("tray", starts.tray_x, starts.tray_y, 0.0),
            ("phone", starts.phone_x, starts.phone_y, self.phone[2]),
        ):
            yaw = rng.choice([-1.0, 1.0]) * rng.uniform(*starts.yaw)
            place = [rng.uniform(*xs), rng.uniform(*ys), z + 0.0005]
            x, y, z, w = quaternion_from_euler(0.0, 0.0, yaw)
            data.joint(item).qpos[:] = [*place, w, x, y, z]  # MuJoCo puts w first
        return str(rng.choice(PHRASES))

    def goal(self, scene: Scene) -> Pose:
        """Return the pose of the phone when it is packed."""
        tray = pose(scene, "tray")
        return Pose(ahead_of(tray, self.seat), tray.rotation)

    def fit(self, scene: Scene) -> Fit:
        """Return how the phone lies to the tray."""
        return fit(pose(scene, "phone"), self.goal(scene))

    def packed(self, scene: Scene) -> bool:
        """Return whether the phone lies flat in the tray."""
        here = self.fit(scene)
        inside = here.lateral < 0.003 and abs(here.height) < SEATED and here.tilt < FLAT and here.yaw < 0.05
        return inside and scene.rotation("tray")[2, 2] > 0.995

    def succeeded(self, scene: Scene) -> bool:
        free = not any(scene.touching(arm, item) for arm in (HOLDER, INSERTER) for item in self.items)
        still = scene.speed("phone") < 0.02 and scene.speed("tray") < 0.02
        return free and still and self.packed(scene)

    def failed(self, scene: Scene) -> bool:
        return any(lost(scene, item) or fallen_over(scene, item) for item in self.items)

    def progress(self, scene: Scene) -> float:
        """0.15 for the tray in the hand, 0.2 for the phone, 0.3 for the way, 0.2 for going in, 0.1 for letting go."""
        if self.packed(scene):
            return 0.85 + 0.05 * sum(scene.touching(arm, i) == 0 for arm, i in ((INSERTER, "phone"), (HOLDER, "tray")))
        handle = ahead_of(pose(scene, "tray"), self.handle)
        held = 0.15 if scene.touching(HOLDER, "tray") == 2 else 0.12 * nearness(scene.hand(HOLDER).point - handle)
        here = self.fit(scene)
        taken = scene.touching(INSERTER, "phone") == 2
        if here.lateral > 0.04 and not taken:
            return held + 0.15 * nearness(scene.hand(INSERTER).point - scene.position("phone"))
        lifted = float(np.clip(scene.position("phone")[2] / 0.03, 0, 1))
        way = float(np.clip(1 - here.lateral / 0.25, 0, 1))
        turned = float(np.clip(1 - (here.yaw + here.tilt) / 0.5, 0, 1))
        deep = float(np.clip(1 - here.height / 0.04, 0, 1)) if here.lateral < 0.01 else 0.0
        return held + 0.15 * taken + 0.05 * lifted + 0.25 * way + 0.05 * turned + 0.2 * deep

    def milestones(self, scene: Scene) -> int:
        """Tray in the hand, phone in the hand and lifted, phone packed (and then the tray may be let go)."""
        if self.packed(scene):
            return 3
        up = scene.position("phone")[2] > 0.025 or self.fit(scene).lateral < 0.01
        lifted = scene.touching(INSERTER, "phone") == 2 and up
        return int(scene.touching(HOLDER, "tray") == 2) + int(lifted)

    def tactic(self) -> Tactic:
        return _HoldAndInsert(self)


class _HoldAndInsert(Tactic):
    """Both hands reach at once; the phone waits over the tray until the tray is held; the inserter lets go first."""

    def __init__(self, task: PhonePacking) -> None:
        self._task = task
        self._inserter = Inserter(task.pocket, aligned=0.003)
        self._held: Pose | None = None  # the hand when it took hold: the scene does not show where that was

    def intend(self, scene: Scene, aim: np.ndarray) -> dict[str, Intention]:
        packed = self._task.packed(scene)
        wishes = {HOLDER: self._hold(scene, aim, packed), INSERTER: self._insert(scene, aim, packed)}
        return {arm: wish for arm, wish in wishes.items() if wish is not None}

    def _hold(self, scene: Scene, aim: np.ndarray, packed: bool) -> Intention | None:
        if packed and scene.touching(INSERTER, "phone") == 0:
            return let_go(scene, HOLDER, "tray")
        tray = pose(scene, "tray")
        handle = ahead_of(tray, self._task.handle)
        grip = grip_for(scene, HANDLE[0])
        on_table = scene.touching(INSERTER, "phone") < 2 and self._task.fit(scene).lateral > 0.04
        if on_table and np.linalg.norm(scene.position("phone") - handle) < IN_THE_WAY:
            return None  # the other hand needs the room to pick the phone up
        if scene.touching(HOLDER, "tray") == 2 and self._crowded(scene):
            hand, apart = scene.hand(HOLDER), tray.point - scene.position("phone")
            aside = 0.03 * np.array([apart[0], apart[1], 0.0]) / np.linalg.norm(apart)
            self._held = Pose(hand.point + aside, hand.rotation)
            return Intention(self._held, grip, at_work=False)
        if scene.touching(HOLDER, "tray") == 2:
            self._held = self._held or scene.hand(HOLDER)
            return Intention(self._held, grip, at_work=False)
        self._held = None
        return grasp(scene, HOLDER, handle, aim, grip, across(tray))

    def _crowded(self, scene: Scene) -> bool:
        """Return whether the tray leaves the fingers no room beside a phone on the table, and can be pulled away."""
        if scene.touching(INSERTER, "phone") == 2:
            return False
        tray, phone = pose(scene, "tray"), scene.position("phone")
        far = np.linalg.norm(phone - ahead_of(tray, self._task.handle)) > IN_THE_WAY
        return bool(far and 0.04 < np.linalg.norm((phone - tray.point)[:2]) < CROWDED)

    def _insert(self, scene: Scene, aim: np.ndarray, packed: bool) -> Intention | None:
        task, phone = self._task, pose(scene, "phone")
        if packed:
            return let_go(scene, INSERTER, "phone")
        grip = grip_for(scene, task.phone[0])
        if self._crowded(scene):
            over = Pose(phone.point + up(0.1), scene.hand(INSERTER).rotation)
            return Intention(over, scene.robot.open_gripper)
        if scene.touching(INSERTER, "phone") < 2:
            return grasp(scene, INSERTER, ahead_of(phone, up(GRASP_ABOVE)), aim, grip, across(phone))
        return self._inserter.intend(
            scene, INSERTER, "phone", task.goal(scene), aim, grip, wait=scene.touching(HOLDER, "tray") < 2
        )

"""Phone assembly: press a battery into the slot of a phone until it snaps in under two sprung lips."""

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

FLOOR, DEPTH, WALL, CHAMFER = 0.004, 0.011, 0.010, (0.0035, 0.0045)  # m, see Pocket
LIP_GAP = 0.018  # m, half length of the gaps in the walls, in which the lips move
LIP = (0.003, 0.014)  # m, radius and half length
LIP_OVERLAP = 0.001  # m that a lip reaches over the seated battery's edge
LIP_FORCE, LIP_STIFFNESS = 2.5, 400.0  # N at rest, N/m: some 13 N in all to push the battery through
REST = 0.045  # m, half length of the phone beyond the slot
RIDGE = 0.012  # m, half height of the ridge to hold the battery by
GRASP_ABOVE = 0.030  # m, pinch point over the middle of the plate: the fingers stay clear of the phone
SEATED = 0.0012  # m over the floor
SQUARE = 0.035  # rad
PRESS = 0.010  # m that the set point leads
PHRASES = (
    "press the battery into the phone",
    "push the battery into its slot until it snaps in",
    "pick up the battery and fit it into the phone",
    "insert the battery into the slot of the phone",
)


@dataclass(frozen=True)
class Look:
    """What the objects of a variant are like."""

    plate: tuple[float, float, float]  # m, half sizes
    ridge: tuple[float, float]  # m, half sizes across and along
    plate_colour: list[float]
    ridge_colour: list[float]
    phone_colour: list[float]
    slot_colour: list[float]
    lip_colour: list[float]


LOOKS = {
    "train": Look(
        (0.018, 0.032, 0.004),
        (0.012, 0.016),
        [0.1, 0.55, 0.2, 1],
        [0.55, 0.9, 0.4, 1],
        [0.12, 0.13, 0.2, 1],
        [0.55, 0.58, 0.65, 1],
        [0.95, 0.75, 0.1, 1],
    ),
    "held_out": Look(
        (0.0195, 0.029, 0.004),
        (0.0135, 0.014),
        [0.75, 0.3, 0.05, 1],
        [1.0, 0.65, 0.25, 1],
        [0.45, 0.1, 0.15, 1],
        [0.25, 0.25, 0.3, 1],
        [0.1, 0.7, 0.75, 1],
    ),
}


@dataclass(frozen=True)
class Starts:
    """Ranges of the start states: low, high."""

    clearance: float  # m in all, length and width
    phone_x: tuple[float, float]  # towards the battery's side
    phone_y: tuple[float, float]
    phone_yaw: tuple[float, float]  # rad, either way
    battery_x: tuple[float, float]  # m from the middle
    battery_y: tuple[float, float]
    battery_yaw: tuple[float, float]
    sides: tuple[float, ...]


STARTS = {
    ("easy", "train"): Starts(
        0.001, (-0.01, 0.01), (0.56, 0.58), (0, 0.05), (0.13, 0.16), (0.5, 0.56), (0, 0.1), (1.0,)
    ),
    ("easy", "held_out"): Starts(
        0.001, (0.01, 0.03), (0.58, 0.6), (0.05, 0.1), (0.16, 0.18), (0.45, 0.5), (0.1, 0.2), (1.0,)
    ),
    ("full", "train"): Starts(
        0.0008, (-0.03, 0.04), (0.54, 0.62), (0, 0.3), (0.12, 0.19), (0.42, 0.6), (0, 0.5), (-1.0, 1.0)
    ),
    ("full", "held_out"): Starts(
        0.0008, (-0.06, -0.03), (0.54, 0.64), (0.3, 0.42), (0.11, 0.2), (0.38, 0.62), (0.5, 0.7), (-1.0, 1.0)
    ),
}


class PhoneAssembly(Task):
    """The phone is clamped to the table; the arm on the battery's side picks the battery up and presses it home.

    The slot guides and jams by contact alone, and the battery snaps in under two sprung lips: nothing is welded.
    `easy`: battery on the right, 1 mm clearance, both within 1 to 3 cm and 3 to 6 degrees of their usual places.
    `full`: battery on either side, 0.8 mm, phone anywhere within 7 x 8 cm and 17 degrees, battery 7 x 18 cm and 29.
    `held_out`: other sizes and colours, places and yaws beyond those of `train`.
    """

    levels = ("easy", "full")
    arms = 2
    items = ("battery",)
    fixtures = ("phone",)
    time_limit = 12.0

    def __init__(self, level: str, variant: str) -> None:
        super().__init__(level, variant)
        self.look, self.starts = LOOKS[variant], STARTS[level, variant]
        self.plate = np.array(self.look.plate)
        self.pocket = Pocket(
            inner=self.plate[:2] + self.starts.clearance / 2,
            floor=FLOOR,
            depth=DEPTH,
            wall=WALL,
            chamfer=CHAMFER,
            notch=LIP_GAP,
            sunk=0.02,
        )
        self.seat = np.array([0, 0, FLOOR + self.plate[2]])  # in the phone's frame

    def build(self, spec: mujoco.MjSpec, robot: Robot) -> None:
        # Mocap: fixed to the table, yet where it stands is part of the state.
        phone = spec.worldbody.add_body(name="phone", pos=[0, 0.57, 0], mocap=True)
        look, box = self.look, mujoco.mjtGeom.mjGEOM_BOX
        self.pocket.build(phone, look.phone_colour, look.slot_colour, mass=0.1)
        x, y = self.pocket.inner + WALL
        half = (FLOOR + DEPTH) / 2
        solid = {"contype": WORLD_BIT, "conaffinity": ALL_BITS, "rgba": look.phone_colour, **STIFF}
        phone.add_geom(type=box, size=[x, REST, half], pos=[0, y + REST, half], **solid)
        paint = {"contype": 0, "conaffinity": 0, "rgba": look.slot_colour}
        disc = mujoco.mjtGeom.mjGEOM_CYLINDER
        for side in (-1, 1):
            phone.add_geom(type=disc, size=[0.007, 0.0005, 0], pos=[side * 0.01, y + 1.6 * REST, 2 * half], **paint)
            self._lip(spec, phone, side)
        battery = free_box(spec, "battery", self.plate, look.plate_colour, mass=0.03, **FIRM)
        battery.add_geom(
            type=box,
            size=[*look.ridge, RIDGE],
            pos=[0, 0, self.plate[2] + RIDGE],
            rgba=look.ridge_colour,
            mass=0.02,
            friction=[1.0, 0.01, 0.001],
            condim=4,
            contype=WORLD_BIT,
            conaffinity=ALL_BITS,
            **FIRM,
        )

    def _lip(self, spec: mujoco.MjSpec, phone: mujoco.MjsBody, side: int) -> None:
        """Add a sprung rod that the battery pushes aside and that then snaps over the battery's upper edge."""
        radius, length = LIP
        reach = radius - LIP_OVERLAP
        height = FLOOR + 2 * self.plate[2] + np.sqrt(radius**2 - reach**2) - 0.0002
        lip = phone.add_body(name=f"lip_{side:+d}", pos=[side * (self.plate[0] + reach), 0, height])
        lip.add_joint(
            name=f"lip_{side:+d}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[side, 0, 0],
            range=[0, 0.005],
            limited=True,
            stiffness=LIP_STIFFNESS,
            springref=-LIP_FORCE / LIP_STIFFNESS,
            damping=8,
            armature=0.05,
            solref_limit=STIFF["solref"],
        )
        lip.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=[0, -length, 0, 0, length, 0],
            size=[radius, 0, 0],
            rgba=self.look.lip_colour,
            mass=0.005,
            friction=[0.3, 0.01, 0.001],
            contype=WORLD_BIT,
            conaffinity=ALL_BITS,
            **STIFF,
        )
        spec.add_exclude(bodyname1="phone", bodyname2=lip.name)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> str:
        starts = self.starts
        side = rng.choice(starts.sides)
        yaw = rng.choice([-1.0, 1.0]) * rng.uniform(*starts.phone_yaw)
        mocap = model.body("phone").mocapid[0]
        data.mocap_pos[mocap] = [side * rng.uniform(*starts.phone_x), rng.uniform(*starts.phone_y), 0]
        data.mocap_quat[mocap] = _turned(yaw)
        yaw = rng.choice([-1.0, 1.0]) * rng.uniform(*starts.battery_yaw)
        place = [side * rng.uniform(*starts.battery_x), rng.uniform(*starts.battery_y), self.plate[2] + 0.0005]
        data.joint("battery").qpos[:] = [*place, *_turned(yaw)]
        return str(rng.choice(PHRASES))

    def goal(self, scene: Scene) -> Pose:
        """Return the pose of the battery when it is seated."""
        phone = pose(scene, "phone")
        return Pose(ahead_of(phone, self.seat), phone.rotation)

    def fit(self, scene: Scene) -> Fit:
        """Return how the battery lies to the slot."""
        return fit(pose(scene, "battery"), self.goal(scene))

    def seated(self, scene: Scene) -> bool:
        """Return whether the battery is all the way in, and square."""
        here = self.fit(scene)
        return here.lateral < 0.002 and abs(here.height) < SEATED and here.tilt < SQUARE and here.yaw < SQUARE

    def succeeded(self, scene: Scene) -> bool:
        free = not any(scene.touching(arm, "battery") for arm in scene.robot.arms)
        return free and scene.speed("battery") < 0.02 and self.seated(scene)

    def failed(self, scene: Scene) -> bool:
        return lost(scene, "battery") or fallen_over(scene, "battery")

    def progress(self, scene: Scene) -> float:
        """0.2 for the hand at the battery, 0.1 for holding it, 0.3 for the way, 0.1 for the turn, 0.2 for going in."""
        if self.seated(scene):
            return 0.9
        here = self.fit(scene)
        held = scene.holder("battery") is not None
        if here.lateral > 0.03 and not held:
            place = scene.position("battery")
            return 0.2 * max(nearness(scene.hand(arm).point - place) for arm in scene.robot.arms)
        lifted = float(np.clip(scene.position("battery")[2] / 0.03, 0, 1))
        way = float(np.clip(1 - here.lateral / 0.25, 0, 1))
        turned = float(np.clip(1 - (here.yaw + here.tilt) / 0.5, 0, 1))
        deep = float(np.clip(1 - here.height / 0.03, 0, 1)) if here.lateral < 0.008 else 0.0
        return 0.1 + 0.15 * held + 0.05 * lifted + 0.3 * way + 0.1 * turned + 0.2 * deep

    def milestones(self, scene: Scene) -> int:
        """Battery in the hand and lifted, battery seated."""
        if self.seated(scene):
            return 2
        up = scene.position("battery")[2] > 0.025 or self.fit(scene).lateral < 0.008
        return int(scene.holder("battery") is not None and up)

    def tactic(self) -> Tactic:
        return _PressHome(self)


class _PressHome(Tactic):
    """The arm on the battery's side takes its ridge, aligns it over the slot and presses; the other one is home."""

    def __init__(self, task: PhoneAssembly) -> None:
        self._task = task
        self._inserter = Inserter(task.pocket, aligned=0.002, press=PRESS)

    def intend(self, scene: Scene, aim: np.ndarray) -> dict[str, Intention]:
        task, battery = self._task, pose(scene, "battery")
        arm = scene.holder("battery") or ("left" if battery.point[0] < 0 else "right")
        if task.seated(scene):
            wishes = {arm: let_go(scene, arm, "battery") for arm in scene.robot.arms}
            return {arm: wish for arm, wish in wishes.items() if wish is not None}
        grip = grip_for(scene, task.look.ridge[0])
        if scene.touching(arm, "battery") < 2:
            return {arm: grasp(scene, arm, ahead_of(battery, up(GRASP_ABOVE)), aim, grip, across(battery))}
        return {arm: self._inserter.intend(scene, arm, "battery", task.goal(scene), aim, grip)}


def _turned(yaw: float) -> list[float]:
    x, y, z, w = quaternion_from_euler(0.0, 0.0, yaw)
    return [w, x, y, z]  # MuJoCo puts w first

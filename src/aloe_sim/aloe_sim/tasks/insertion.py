"""Parts that go into pockets: the pocket's geometry, how far in a part is, and the hand that gets it in."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from aloe_core.rotations import quaternion_from_euler
from aloe_sim.kinematics import Pose, angle_between, down, nearest_grasp
from aloe_sim.scene import ALL_BITS, WORLD_BIT
from aloe_sim.tactics import CLEARANCE, GRASP_HEIGHT, rise_first
from aloe_sim.tasks.base import Intention, Scene

# Stiff contacts: a part that is pressed must not sink into the pocket's floor. Priority: the pocket decides.
STIFF = {"solref": [0.007, 1.0], "solimp": [0.95, 0.99, 0.0005, 0.5, 2.0], "priority": 1, "condim": 3}
# For what fingers hold: as stiff, but friction stays that of the pads.
FIRM = {"solref": STIFF["solref"], "solimp": STIFF["solimp"], "solmix": 20.0}
# The part of the table the arms can still pick from, and the camera can still see.
AREA = np.array([[-0.27, 0.27], [0.29, 0.77]])
_SLAB = 0.0015  # m, half thickness of a chamfer
_STEP = 0.006  # m that the set point leads a part on its way down: some 20 N once it meets resistance
_RECESS = 0.00015  # m that an upright wall stands back, lest its upper edge catches what comes off the chamfer
_HOVER = 0.007  # m over the rim, where a part is aligned
_LIFT = 0.018  # m over the rim to which a jammed part is lifted
_ASIDE = 0.035  # m, detour on the way to the pocket
_BESIDE = 0.13  # m across, at least, until past the hand that holds the pocket
_STUCK = 0.7  # s without getting deeper
_GAIN = 0.0004  # m that count as deeper
_SEARCH = 0.0012  # m beside the goal, from the second retry on


@dataclass(frozen=True)
class Pocket:
    """A rectangular pocket, open at the top; its frame lies in the middle of the floor's lower side, z up."""

    inner: np.ndarray  # [2], half sizes, m, at the floor
    floor: float  # m, thickness
    depth: float  # m, floor to rim
    wall: float  # m, thickness
    chamfer: tuple[float, float]  # m, outwards and down
    notch: float = 0.0  # m, half length of the gap in the middle of the two walls along y
    friction: float = 0.3
    sunk: float = 0.0  # m that the floor reaches below the frame: what is pressed hard must not come through

    def build(self, body: mujoco.MjsBody, wall_colour: list[float], floor_colour: list[float], mass: float) -> None:
        """Add the pocket's boxes to `body`; `mass` in kg, most of it in the floor."""
        x, y = self.inner + self.wall
        thick, middle = (self.floor + self.sunk) / 2, (self.floor - self.sunk) / 2
        _solid(body, [x, y, thick], [0, 0, middle], floor_colour, 0.8 * mass, self.friction)
        spans = [(-y, -self.notch), (self.notch, y)] if self.notch else [(-y, y)]
        sides = [(0.0, self.inner[0], span) for span in spans] + [(np.pi, self.inner[0], span) for span in spans]
        ends = (-self.inner[0] - self.chamfer[0], self.inner[0] + self.chamfer[0])
        sides += [(np.pi / 2, self.inner[1], ends), (-np.pi / 2, self.inner[1], ends)]
        for angle, inner, span in sides:
            self._side(body, angle, inner, span, wall_colour, 0.2 * mass / len(sides))

    def _side(
        self,
        body: mujoco.MjsBody,
        angle: float,
        inner: float,
        span: tuple[float, float],
        colour: list[float],
        mass: float,
    ) -> None:
        """Add a wall whose inner face is `inner` from the middle towards `angle`: upright, chamfer, rim."""
        out, down_by = self.chamfer
        straight = self.depth - down_by
        middle, half = sum(span) / 2, (span[1] - span[0]) / 2
        length = float(np.hypot(out, down_by))
        inwards = np.array([-down_by, out]) / length
        slab = np.array([inner + out / 2, self.floor + self.depth - down_by / 2]) - _SLAB * inwards
        rim = self.wall - out
        boxes = [
            ([self.wall / 2, half, straight / 2], [inner + _RECESS + self.wall / 2, self.floor + straight / 2], 0.0),
            ([_SLAB, half, length / 2], slab, float(np.arctan2(out, down_by))),
            ([rim / 2, half, down_by / 2], [inner + out + rim / 2, self.floor + self.depth - down_by / 2], 0.0),
        ]
        c, s = np.cos(angle), np.sin(angle)
        for size, (far, z), tilt in boxes:
            pos = [c * far - s * middle, s * far + c * middle, z]
            qx, qy, qz, qw = quaternion_from_euler(0.0, tilt, angle)
            quat = [qw, qx, qy, qz]  # MuJoCo puts w first
            _solid(body, size, pos, colour, mass / 3, self.friction, quat=quat)

    @property
    def straight(self) -> float:
        """Height over the floor, m, below which the walls guide a part."""
        return self.depth - self.chamfer[1]


@dataclass(frozen=True)
class Fit:
    """How a part lies to its goal."""

    lateral: float  # m, along the pocket's floor
    height: float  # m over the goal
    yaw: float  # rad, 0..pi/2: a part fits either way round
    tilt: float  # rad


def fit(part: Pose, goal: Pose) -> Fit:
    """Return how `part` lies to `goal`."""
    offset = goal.rotation.T @ (part.point - goal.point)
    turned = goal.rotation.T @ part.rotation
    return Fit(
        lateral=float(np.hypot(*offset[:2])),
        height=float(offset[2]),
        yaw=float(np.arctan2(abs(turned[1, 0]), abs(turned[0, 0]))),
        tilt=float(np.arccos(np.clip(turned[2, 2], -1.0, 1.0))),
    )


def pose(scene: Scene, item: str) -> Pose:
    """Return where a body is."""
    return Pose(scene.position(item), scene.rotation(item))


def up(height: float) -> np.ndarray:
    """Return `height`, m, as a vector [3]."""
    return np.array([0.0, 0.0, height])


def ahead_of(place: Pose, offset: np.ndarray) -> np.ndarray:
    """Return the world point [3] at `offset` [3] in the frame of `place`."""
    return place.point + place.rotation @ offset


def across(place: Pose) -> float:
    """Return the direction, rad, of an object's x axis on the table."""
    return float(np.arctan2(place.rotation[1, 0], place.rotation[0, 0]))


def nearness(offset: np.ndarray) -> float:
    """Return 1 where `offset` [3], m, is nothing, 0 from 0.35 m on."""
    return float(np.clip(1 - np.linalg.norm(offset) / 0.35, 0, 1))


def lost(scene: Scene, item: str) -> bool:
    """Return whether a part lies where no arm can pick it up or no camera see it, or fell off the table."""
    position = scene.position(item)
    inside = np.all((position[:2] > AREA[:, 0]) & (position[:2] < AREA[:, 1]))
    return bool(position[2] < -0.01 or (not inside and scene.holder(item) is None))


def fallen_over(scene: Scene, item: str) -> bool:
    """Return whether a part lies on its side or face, where fingers from above cannot take it as it must be taken."""
    if any(scene.touching(arm, item) for arm in scene.robot.arms) or scene.rotation(item)[2, 2] > 0.5:
        return False
    return scene.supported(item) and scene.speed(item) < 0.02


def let_go(scene: Scene, arm: str, item: str) -> Intention | None:
    """Open where the hand is; None, which is home, once nothing is touched."""
    if scene.touching(arm, item) == 0:
        return None
    return Intention(scene.hand(arm), scene.robot.open_gripper, at_work=False)


def grasp(scene: Scene, arm: str, point: np.ndarray, aim: np.ndarray, grip: float, opening: float) -> Intention:
    """Come down over `point` [3] with the fingers opening along `opening`, rad, and close only at full depth.

    For parts that are flat, and nearly as wide as the gripper opens, where `pick` is too coarse.
    """
    hand = scene.hand(arm)
    target = np.append((point + aim)[:2], max(GRASP_HEIGHT, point[2]))
    rotation = nearest_grasp(down(opening), hand.rotation)
    away = float(np.hypot(*(target[:2] - hand.point[:2])))
    off = max(away, 0.1 * max(0.0, angle_between(rotation, hand.rotation) - 0.03))
    over = target + up(CLEARANCE * float(np.clip((off - 0.004) / 0.012, 0, 1)))
    around = off < 0.010 and hand.point[2] < target[2] + 0.004
    point = rise_first(hand.point, over, clear=over[2] - 0.015)
    return Intention(Pose(point, rotation), grip if around else scene.robot.open_gripper)


class Inserter:
    """Carries a held part over its pocket, aligns it, lets it down, presses; lifts and tries again when it jams."""

    def __init__(self, pocket: Pocket, aligned: float, press: float = _STEP, pace: float = 0.8) -> None:
        """`aligned`: m of error within which the part may go down; `press`: m that the set point leads it there."""
        self._pocket, self._aligned, self._press, self._pace = pocket, aligned, press, pace
        # The scene shows neither how long nor how often it has been tried.
        self._tries = 0
        self._lifting = False
        self._lowest = np.inf
        self._lowest_at = 0.0

    def intend(
        self, scene: Scene, arm: str, item: str, goal: Pose, aim: np.ndarray, grip: float, wait: bool = False
    ) -> Intention:
        """Bring `item`, held by `arm`, to `goal`, its pose when seated; `aim` [3], m, fades with every look.

        With `wait` it stays over the pocket.
        """
        part, hand, pocket = pose(scene, item), scene.hand(arm), self._pocket
        if (goal.rotation.T @ part.rotation)[0, 0] < 0:
            goal = Pose(goal.point, goal.rotation * np.array([-1.0, -1.0, 1.0]))
        height = fit(part, goal).height
        inside = height < pocket.straight
        # Hands feel the rim: what they got wrong by eye gives way to it.
        unfelt = float(np.clip((height - pocket.straight) / (_HOVER + pocket.chamfer[1]), 0, 1))
        error = unfelt * (aim * 0.5**self._tries + self._search())
        here = fit(part, Pose(goal.point + error, goal.rotation))
        hover = pocket.depth + _HOVER
        askew = here.yaw > 0.12 or here.tilt > 0.15 or here.lateral > pocket.chamfer[0] + 0.004
        if here.height > hover + 0.004:
            self._lifting = False
        self._lifting |= (askew and here.height < pocket.depth) or self._stuck(scene, here)
        back = goal.rotation @ part.rotation.T
        point = goal.point + error + back @ (hand.point - part.point)
        rotation = back @ hand.rotation
        if self._lifting:
            return Intention(Pose(hand.point + up(pocket.depth + _LIFT - here.height), hand.rotation), grip)
        if here.lateral > 0.05 or wait:
            over = point + goal.rotation @ self._detour(part, goal, wait) + up(pocket.depth + 0.03)
            return Intention(Pose(rise_first(hand.point, over, clear=over[2] - 0.02), rotation), grip)
        miss = here.lateral + 0.05 * max(0.0, here.yaw - 0.03) + 0.05 * max(0.0, here.tilt - 0.05)
        share = 1.0 if here.height > hover + 0.02 else float(np.clip((miss - self._aligned) / 0.004, 0, 1))
        low = max(-self._press, here.height - self._press)
        if inside:
            share = 0.0
        height = share * hover + (1 - share) * low
        return Intention(Pose(point + up(height), rotation), grip, self._pace)

    def _detour(self, part: Pose, goal: Pose, wait: bool) -> np.ndarray:
        """Return how far, [3], m, in the goal's frame, to stay off the goal on the way: round the hand at its near end.

        First along the pocket until past that hand, then across; `wait` keeps the part beside the pocket.
        """
        x, y, _ = goal.rotation.T @ (part.point - goal.point)
        far = goal.rotation[1, 1]  # its sign: a goal turned round has its far end at negative y
        past = float(np.clip((np.sign(far) * y + _ASIDE) / 0.03, 0, 1))
        beside = 1.0 if wait else (1 - past) * float(abs(x) > 0.06)
        along = _ASIDE * float(np.clip((np.hypot(x, y) - 0.05) / 0.03, 0, 1))
        return np.array([np.sign(x) * max(abs(x), _BESIDE) * beside, np.sign(far) * along, 0.0])

    def _search(self) -> np.ndarray:
        if self._tries < 2:
            return np.zeros(3)
        return _SEARCH * np.array([np.cos(2.4 * self._tries), np.sin(2.4 * self._tries), 0.0])

    def _stuck(self, scene: Scene, here: Fit) -> bool:
        if here.height > self._pocket.depth + 0.002 or here.height < self._lowest - _GAIN:
            self._lowest, self._lowest_at = here.height, scene.time
        if self._lifting or scene.time - self._lowest_at < _STUCK:
            return False
        self._tries += 1
        self._lowest, self._lowest_at = np.inf, scene.time
        return True


def _solid(
    body: mujoco.MjsBody,
    size: list[float],
    pos: list[float] | np.ndarray,
    rgba: list[float],
    mass: float,
    friction: float,
    **options: object,
) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=size,
        pos=pos,
        rgba=rgba,
        mass=mass,
        friction=[friction, 0.01, 0.001],
        contype=WORLD_BIT,
        conaffinity=ALL_BITS,
        **(STIFF | options),
    )

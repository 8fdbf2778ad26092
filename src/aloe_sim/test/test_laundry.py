"""Grasps of the towel, its detectors, and the expert's folds."""

import numpy as np
import pytest

from aloe_sim.expert import Expert, Skill
from aloe_sim.kinematics import Pose, down, nearest_grasp
from aloe_sim.station import Station
from aloe_sim.tasks.cloth import COUNT, LET_GO, REACH, SHUT
from aloe_sim.tasks.folding import TOGETHER, gap
from sim_tools import ROBOT, drive

OPEN = 0.04  # m, finger command
ABOVE = np.array([0, 0, 0.08])


@pytest.fixture(scope="module")
def station():
    return Station(ROBOT, "laundry_folding", render=False)


@pytest.fixture(scope="module")
def twice():
    return Station(ROBOT, "laundry_folding", level="full", render=False)


def hold(station: Station, tips: dict[str, np.ndarray], grip: float, seconds: float) -> None:
    """Bring the finger tips to places, [3], pointing down, and the fingers to `grip`."""
    cloth, robot = station.task.cloth, station.robot
    command = station.joint_positions().astype(np.float64)
    for _ in range(round(seconds / ROBOT.dt)):
        poses = {}
        for arm, tip in tips.items():
            hand = station.hand(arm)
            way = tip - cloth.tip(station, arm)
            ahead = hand.point + way * min(1.0, 0.03 / max(float(np.linalg.norm(way)), 1e-9))
            poses[arm] = Pose(ahead, nearest_grasp(down(0.0), hand.rotation))
            command[ROBOT.joint_names.index(robot.arm_joints(arm)[-1])] = grip
        command = station.kinematics.reach(command, poses)
        station.step(command)


def over(station: Station, i: int, j: int, up: float = 0.0) -> np.ndarray:
    return station.task.cloth.vertices(station)[i, j] + np.array([0, 0, 0.005 + up])


def held(station: Station, arm: str) -> list[tuple[int, int]]:
    return [tuple(v) for v in np.argwhere(station.task.cloth.held(station, arm)).tolist()]


def take(station: Station) -> None:
    station.reset(3)
    corner = over(station, 0, 0)
    hold(station, {"left": corner + ABOVE}, OPEN, 1.2)
    hold(station, {"left": corner}, OPEN, 1.0)
    hold(station, {"left": corner}, station.robot.shut_gripper, 0.5)


def test_fingers_that_shut_on_a_corner_lift_it_and_let_go_when_they_open(station):
    take(station)
    assert held(station, "left") == [(0, 0)] and held(station, "right") == []
    hold(station, {"left": over(station, 0, 0, up=0.06)}, station.robot.shut_gripper, 0.6)
    corner, tip = station.task.cloth.vertices(station)[0, 0], station.task.cloth.tip(station, "left")
    assert corner[2] > 0.04 and np.linalg.norm(corner - tip) < 0.006
    hold(station, {"left": tip}, OPEN, 0.8)
    assert held(station, "left") == []
    assert station.task.cloth.vertices(station)[0, 0, 2] < 0.02


def test_a_grasp_begins_without_a_jolt(station):
    station.reset(3)
    aside = over(station, 0, 0) + np.array([0, 0.006, 0])
    hold(station, {"left": aside + ABOVE}, OPEN, 1.2)
    hold(station, {"left": aside}, OPEN, 1.0)
    fastest = 0.0
    for _ in range(20):
        hold(station, {"left": aside}, station.robot.shut_gripper, ROBOT.dt)
        fastest = max(fastest, station.task.cloth.speed(station))
    assert held(station, "left") == [(0, 0)]
    assert fastest < 0.3


@pytest.mark.parametrize(("height", "shut_before"), [(REACH[0] + 0.01, False), (0.0, True)])
def test_nothing_is_taken_from_above_or_by_fingers_that_were_shut(station, height, shut_before):
    station.reset(3)
    corner = over(station, 0, 0, up=height)
    grip = station.robot.shut_gripper if shut_before else OPEN
    hold(station, {"left": corner + ABOVE}, grip, 1.2)
    hold(station, {"left": corner}, grip, 1.0)
    hold(station, {"left": corner}, station.robot.shut_gripper, 0.6)
    assert station.opening("left") < station.robot.shut_gripper + SHUT < station.robot.shut_gripper + LET_GO
    assert held(station, "left") == []


def test_a_corner_that_is_pulled_too_hard_slips(station):
    take(station)
    other = over(station, COUNT - 1, 0)
    hold(station, {"right": other + ABOVE}, OPEN, 1.2)
    hold(station, {"right": other}, OPEN, 1.0)
    hold(station, {"right": other}, station.robot.shut_gripper, 0.5)
    assert held(station, "left") == [(0, 0)] and held(station, "right") == [(COUNT - 1, 0)]
    out = np.array([0.09, 0, 0.02])
    apart = {"left": over(station, 0, 0) + out * [-1, 1, 1], "right": other + out}
    hold(station, apart, station.robot.shut_gripper, 1.5)
    assert min(len(held(station, "left")), len(held(station, "right"))) == 0
    places = station.task.cloth.vertices(station)
    assert np.linalg.norm(places[0, 0] - places[-1, 0]) < 1.03 * station.task.cloth.size, "stretched"


@pytest.mark.parametrize("variant", ["train", "held_out"])
def test_a_start_is_flat_still_and_in_front_of_both_hands(variant):
    station = Station(ROBOT, "laundry_folding", "full", variant, render=False)
    for seed in range(10):
        station.reset(seed)
        places = station.task.cloth.vertices(station)
        assert not station.success and not station.failure and station.stage < 0.2
        assert station.task.cloth.speed(station) < 0.3
        assert places[..., 2].min() > 0 and places[..., 2].max() < 0.02
        assert min(gap(places, axis) for axis in (0, 1)) > 0.9 * station.task.cloth.size
        # The overhead camera sees it all.
        assert (np.abs(places[..., :2] - [0, 0.535]) < 0.23).all()


@pytest.mark.parametrize(("level", "variant", "skill"), [
    ("easy", "held_out", Skill()),
    ("full", "train", Skill(speed=0.95, speed_spread=0.1, aim_spread=0.003, wobble=0.004)),
    ("full", "held_out", Skill()),
])  # fmt: skip
def test_the_expert_folds(level, variant, skill):
    station = Station(ROBOT, "laundry_folding", level, variant, render=False)
    mirror = Station(ROBOT, "laundry_folding", level, variant, render=False)
    station.reset(9000)
    expert = Expert(station, skill)
    best, milestones = 0.0, [0]
    while not station.success and station.tick < station.steps_limit:
        station.step(expert.act())
        assert station.stage > best - 0.15, "a person would take it for a setback"
        best = max(best, station.stage)
        milestones.append(station.task.milestones(station))
        if station.tick % 50 == 0 or station.success:
            mirror.restore(station.snapshot())
            seen, meant = (
                (s.success, s.failure, s.stage, s.task.milestones(s), held(s, "left")) for s in (mirror, station)
            )
            assert seen == meant
    assert station.success and not station.failure
    folds = station.task.folds
    assert milestones[-1] == 2 * folds and sorted(set(milestones)) == list(range(2 * folds + 1))
    assert held(station, "left") == held(station, "right") == []


def test_the_expert_takes_again_what_it_dropped(twice):
    twice.reset(0)
    gripper = ROBOT.joint_names.index("left_gripper")
    expert = Expert(twice)
    while gap(twice.task.cloth.vertices(twice), 1) > 0.15:
        twice.step(expert.act())
    assert held(twice, "left")
    for _ in range(15):
        command = expert.act()
        command[gripper] = OPEN
        twice.step(command)
    assert not held(twice, "left")
    drive(twice, 14.0)
    assert twice.success


def test_a_towel_out_of_reach_or_in_a_heap_is_a_failure(station):
    cloth = station.task.cloth
    station.reset(0)
    cloth.put(station.model, station.data, cloth.flat(np.array([0.35, 0.55]), 0.0))
    station.step(station.joint_positions())
    assert station.failure and not station.success
    station.reset(0)
    heap = cloth.flat(np.array([0.0, 0.55]), 0.0)
    heap[..., 1] = 0.55 + 0.3 * (heap[..., 1] - 0.55)
    cloth.put(station.model, station.data, heap)
    station.data.qvel[:] = 0
    station._look()
    assert station.failure and not station.success


def test_corners_that_lie_together_are_no_fold_if_the_rest_is_crumpled(twice):
    cloth = twice.task.cloth
    twice.reset(0)
    places = cloth.flat(np.array([0.0, 0.5]), 0.0)
    folded = places.copy()
    folded[: COUNT // 2, :, 0] = places[COUNT // 2 + 1 :, :, 0][::-1]
    folded[:, : COUNT // 2, 1] = places[:, COUNT // 2 + 1 :, 1][:, ::-1]
    cloth.put(twice.model, twice.data, folded)
    twice.data.qvel[:] = 0
    twice._look()
    assert twice.success
    assert max(gap(cloth.vertices(twice), axis) for axis in (0, 1)) < TOGETHER
    crumpled = folded.copy()
    crumpled[..., 0] = folded[0, 0, 0] + 0.6 * (folded[..., 0] - folded[0, 0, 0])
    cloth.put(twice.model, twice.data, crumpled)
    twice._look()
    assert max(gap(cloth.vertices(twice), axis) for axis in (0, 1)) < TOGETHER
    assert not twice.success

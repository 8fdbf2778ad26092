import mujoco
import numpy as np
import pytest

from aloe_sim.expert import Expert, Skill
from aloe_sim.kinematics import Pose
from aloe_sim.station import Station
from aloe_sim.tasks import insertion
from aloe_sim.tasks.insertion import AREA, Inserter, across, fit, grasp, pose, up
from aloe_sim.tasks.phone_assembly import GRASP_ABOVE, PRESS, PhoneAssembly
from sim_tools import ROBOT, drive, jolt

TASKS = ("phone_packing", "phone_assembly")
PART = {"phone_packing": "phone", "phone_assembly": "battery"}
DEEPEST = 0.003  # m
KINDS = [(task, level, variant) for task in TASKS for level in ("easy", "full") for variant in ("train", "held_out")]
made: dict[tuple[str, str, str], Station] = {}


def station_of(task: str, level: str = "full", variant: str = "train") -> Station:
    if (task, level, variant) not in made:
        made[task, level, variant] = Station(ROBOT, task, level, variant, render=False)
    return made[task, level, variant]


def lay(station: Station, item: str, place: Pose) -> None:
    joint, quat = station.data.joint(item), np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(place.rotation).ravel())
    joint.qpos[:] = [*place.point, *quat]
    joint.qvel[:] = 0


def yawed(place: Pose, yaw: float, height: float = 0.0) -> Pose:
    c, s = np.cos(yaw), np.sin(yaw)
    turned = place.rotation @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return Pose(place.point + up(height), turned)


def wait(station: Station, seconds: float, down: float = 0.0, item: str = "") -> None:
    """Keep the arms at home, pressing `item` `down`, N, if any."""
    for _ in range(round(seconds / ROBOT.dt)):
        if item:
            station.data.body(item).xfrc_applied[2] = -down
        station.step(station.home)
    if item:
        station.data.body(item).xfrc_applied[:] = 0


@pytest.mark.parametrize("kind", KINDS)
def test_phone_tasks_start_apart_at_rest_in_view_and_repeatably(kind):
    station, yaws = station_of(*kind), []
    for seed in range(8):
        station.reset(seed)
        first, words = station.snapshot(), station.instruction
        assert not station.success and not station.failure
        assert 0.0 <= station.stage < 0.2 and station.task.milestones(station) == 0
        assert station.penetration() < 0.001
        for item in station.task.items:
            place = pose(station, item)
            assert (place.point[:2] > AREA[:, 0]).all() and (place.point[:2] < AREA[:, 1]).all()
            assert (np.abs(place.point[:2] - [0, 0.535]) < 0.21).all(), "out of the top camera's view"
            assert station.speed(item) < 0.01 and place.rotation[2, 2] > 0.999
        yaws.append(abs(across(pose(station, station.task.items[-1]))))
        station.reset(seed)
        assert station.snapshot().tobytes() == first.tobytes() and station.instruction == words
    assert np.ptp(yaws) > 0.02


@pytest.mark.parametrize("task", TASKS)
def test_the_held_out_variant_has_other_sizes_colours_and_places(task):
    train, other = (station_of(task, "full", variant) for variant in ("train", "held_out"))
    geoms = [station.model.body(PART[task]).geomadr[0] for station in (train, other)]
    assert np.abs(train.model.geom_size[geoms[0]] - other.model.geom_size[geoms[1]]).max() > 0.001
    assert np.abs(train.model.geom_rgba[geoms[0]] - other.model.geom_rgba[geoms[1]]).max() > 0.3
    goals: dict[str, list[float]] = {"train": [], "held_out": []}
    for name, station in (("train", train), ("held_out", other)):
        for seed in range(20):
            station.reset(seed)
            goals[name].append(abs(across(station.task.goal(station))))
    assert max(goals["train"]) < min(goals["held_out"]) + 0.01


@pytest.mark.parametrize("task", TASKS)
def test_several_phrases_name_a_phone_task(task):
    station, words = station_of(task), set()
    for seed in range(20):
        station.reset(seed)
        words.add(station.instruction)
    assert len(words) >= 3 and all(PART[task] in w for w in words)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_does_a_phone_task_within_its_time_and_without_interpenetration(task):
    for level, variant in (("full", "train"), ("full", "train"), ("easy", "train"), ("full", "held_out")):
        station = station_of(task, level, variant)
        for seed in (9000, 9001):
            station.reset(seed)
            expert, deepest, best, setback = Expert(station), 0.0, 0.0, 0.0
            while not (station.success or station.failure or station.tick >= station.steps_limit):
                station.step(expert.act())
                deepest = max(deepest, station.penetration())
                best = max(best, station.stage)
                setback = max(setback, best - station.stage)
            assert station.success and not station.failure, f"{level} {variant} {seed}: {station.stage:.2f}"
            assert station.time < 8.0 and deepest < DEEPEST and setback < 0.35
            assert station.task.milestones(station) == max(2, len(station.task.items) + 1)
            for _ in range(40):
                station.step(expert.act())
            assert station.success, "it came out again"


@pytest.mark.parametrize("task", TASKS)
def test_a_person_with_ordinary_skill_mostly_manages_a_phone_task(task):
    station, done = station_of(task), []
    for seed in range(9100, 9105):
        station.reset(seed)
        drive(station, station.time_limit, Skill(speed=0.95, speed_spread=0.1, aim_spread=0.003, wobble=0.004), seed)
        done.append(station.success)
    assert np.mean(done) >= 0.6


@pytest.mark.parametrize("task", TASKS)
def test_random_and_zero_actions_neither_do_a_phone_task_nor_break_physics(task):
    station, rng = station_of(task), np.random.default_rng(0)
    for seed in range(3):
        station.reset(seed)
        for tick in range(200):
            random = rng.uniform(ROBOT.lower, ROBOT.upper)
            station.step(np.zeros(ROBOT.action_dim) if seed == 2 else random)
            assert not station.success and 0.0 <= station.stage <= 1.0, tick
        assert np.isfinite(station.snapshot()).all()
        assert not any(w.number for w in station.data.warning), "MuJoCo warned"


@pytest.mark.parametrize("task", TASKS)
def test_a_mirror_of_a_phone_task_agrees_at_every_stage(task):
    station, mirror = station_of(task), Station(ROBOT, task, "full", render=False)
    station.reset(9200)
    expert = Expert(station)
    while not station.success and station.time < station.time_limit:
        if station.tick % 25 == 0:
            mirror.restore(station.snapshot())
            assert mirror.snapshot().tobytes() == station.snapshot().tobytes()
            assert mirror.task.milestones(mirror) == station.task.milestones(station)
        station.step(expert.act())
    mirror.restore(station.snapshot())
    assert mirror.success and not mirror.failure


@pytest.mark.parametrize("task", TASKS)
def test_a_part_in_place_is_a_success_and_one_above_it_or_across_it_is_not(task):
    station = station_of(task)
    item = PART[task]
    station.reset(0)
    lay(station, item, station.task.goal(station))
    if task == "phone_packing":  # the sprung plate gives way to the phone
        station.data.joint("plate").qpos[0] = 0.0095
    wait(station, 0.5)
    assert station.success and station.stage == 1.0 and not station.failure
    station.reset(0)
    lay(station, item, yawed(station.task.goal(station), 0.5, 0.02))
    wait(station, 0.5)
    assert not station.success


@pytest.mark.parametrize("task", TASKS)
def test_a_part_out_of_reach_off_the_table_or_on_its_face_is_a_failure(task):
    station, item = station_of(task), PART[task]
    flat = np.eye(3)
    for place in (
        Pose(np.array([0.31, 0.4, 0.02]), flat),
        Pose(np.array([0.1, 0.1, -0.1]), flat),
        Pose(np.array([0.15, 0.4, 0.03]), flat * np.array([1.0, -1.0, -1.0])),
    ):
        station.reset(0)
        lay(station, item, place)
        wait(station, 0.8)
        assert station.failure and not station.success


def test_a_tray_that_has_tipped_over_is_a_failure():
    station = station_of("phone_packing")
    station.reset(0)
    lay(station, "tray", Pose(np.array([-0.1, 0.6, 0.06]), np.diag([1.0, -1.0, -1.0])))
    wait(station, 0.8)
    assert station.failure and not station.success


@pytest.mark.parametrize("task", TASKS)
def test_a_dropped_part_is_picked_up_again(task):
    station, grippers = station_of(task), [i for i, name in enumerate(ROBOT.joint_names) if "gripper" in name]
    for seed, after in ((9300, 2.3), (9301, 2.9)):
        station.reset(seed)
        drive(station, after)
        held = station.joint_positions().astype(float)
        held[grippers] = 0.055
        before = station.stage
        for _ in range(30):
            station.step(held)
        assert station.task.milestones(station) == 0 and station.stage < before - 0.1
        start = station.time
        drive(station, 12.0)
        assert station.success, f"seed {seed}: {station.stage:.2f}"
        assert station.time - start < 10.0


@pytest.mark.parametrize("task", TASKS)
def test_a_part_jammed_askew_on_the_rim_is_lifted_and_put_in(task):
    for yaw in (-0.26, 0.2):
        station, item = station_of(task), PART[task]
        station.reset(9400)
        lay(station, item, yawed(station.task.goal(station), yaw, 0.016))
        wait(station, 0.5)
        assert not station.success and not station.failure
        drive(station, 12.0)
        assert station.success, f"yaw {yaw}: {station.stage:.2f}"


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_recovers_from_thrown_arms_in_a_phone_task(task):
    station, recovered = station_of(task), []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        station.reset(9500 + seed)
        drive(station, rng.uniform(0.5, 3.0))
        jolt(station, rng, 0.5)
        if station.failure:
            continue  # knocked over or out of reach: nothing to recover
        drive(station, 14.0)
        recovered.append(station.success)
    assert len(recovered) >= 3 and np.mean(recovered) >= 0.6


def test_a_tray_that_nobody_holds_slides_away_from_the_phone():
    station = station_of("phone_packing")
    station.reset(9600)
    place, task = station.position("tray"), station.task
    expert = Expert(station)
    tactic = task.tactic()
    intend = tactic.intend
    tactic._hold = lambda *_: None
    insert = tactic._inserter.intend
    tactic._inserter.intend = lambda *a, wait: insert(*a)
    expert._tactic = tactic
    tactic.intend = intend
    while station.time < 8.0:
        station.step(expert.act())
        assert not station.success
    assert np.linalg.norm(station.position("tray") - place) > 0.03


@pytest.mark.parametrize(
    ("yaw", "force", "seats"), [(0, 1, False), (0, 15, True), (0.15, 20, False), (0.26, 40, False)]
)
def test_a_battery_needs_force_and_jams_at_an_angle(yaw, force, seats):
    station = station_of("phone_assembly")
    station.reset(0)
    lay(station, "battery", yawed(station.task.goal(station), yaw, 0.0125))
    wait(station, 1.0, force, "battery")
    here = station.task.fit(station)
    assert (here.height < 0.001) == seats
    wait(station, 0.3)
    assert station.success == seats


def test_a_seated_battery_snaps_in_and_needs_force_to_come_out():
    station = station_of("phone_assembly")
    for pull, out in ((3, False), (15, True)):
        station.reset(0)
        lay(station, "battery", station.task.goal(station))
        wait(station, 0.5, -pull, "battery")
        assert (station.task.fit(station).height > 0.005) == out


@pytest.mark.parametrize(("yaw", "seats"), [(0.0, True), (0.26, False), (-0.26, False)])
def test_a_hand_that_presses_the_battery_at_15_degrees_does_not_seat_it(yaw, seats):
    station = station_of("phone_assembly", "easy")
    station.reset(9700)
    expert = Expert(station)
    expert._tactic = Stubborn(station.task, yaw)
    while station.time < 7.0 and not station.task.seated(station):
        station.step(expert.act())
    assert station.task.seated(station) == seats
    if not seats:
        here = station.task.fit(station)
        assert here.lateral < 0.01 and here.yaw > 0.1, "it was not where it should jam"
        assert not station.success


class Stubborn:
    """Presses the battery down at a yaw, however long it takes."""

    def __init__(self, task: PhoneAssembly, yaw: float) -> None:
        self._task, self._yaw = task, yaw
        self._inserter = Inserter(task.pocket, aligned=0.002, press=PRESS)

    def intend(self, scene, aim):
        battery = pose(scene, "battery")
        if scene.touching("right", "battery") < 2:
            at = battery.point + up(GRASP_ABOVE)
            return {"right": grasp(scene, "right", at, aim, 0.017, across(battery))}
        goal = yawed(self._task.goal(scene), self._yaw)
        return {"right": self._inserter.intend(scene, "right", "battery", goal, aim, 0.017)}


def test_fit_counts_a_part_turned_round_as_fitting():
    goal = Pose(np.zeros(3), np.eye(3))
    here = fit(Pose(np.array([0.003, 0.004, 0.01]), np.diag([-1.0, -1.0, 1.0])), goal)
    assert (here.lateral, here.height) == (pytest.approx(0.005), pytest.approx(0.01))
    assert here.yaw == pytest.approx(0.0) and here.tilt == pytest.approx(0.0)
    assert fit(yawed(goal, -0.3), goal).yaw == pytest.approx(0.3)
    assert insertion.nearness(np.array([0.35, 0, 0])) == pytest.approx(0.0)

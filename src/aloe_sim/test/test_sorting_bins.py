"""Sorting into several bins: what the words say, who fails, what a mirror knows, and the expert."""

import re

import numpy as np
import pytest

from aloe_sim.expert import Expert
from aloe_sim.station import Station
from sim_tools import ROBOT, drive, put

LEVELS = [("three", "train"), ("three", "held_out"), ("six", "train"), ("six", "held_out")]
STATIONS = {key: Station(ROBOT, level=key[0], variant=key[1], render=False) for key in LEVELS}
ARMS = {"left": -0.469, "right": 0.469}  # m, x of the bases; both at y = 0.5
REACH = 0.6  # m


@pytest.fixture(params=LEVELS, ids="-".join)
def station(request):
    return STATIONS[request.param]


def goals(station: Station) -> dict[str, str]:
    """Return the bin of each item, as the station has it."""
    task = station.task._task
    return {thing.item: task.goal(station, i).name for i, thing in enumerate(task.things)}


def read(instruction: str, items: tuple[str, ...]) -> dict[str, str]:
    """Return the bin of each item as a person reads the words, who knows nothing else."""
    where: dict[str, str] = {}
    rest = ""
    for what, side in re.findall(r"(.*?) into the (left|right|middle) bin", instruction):
        if re.search(r"everything else|the rest|all other things", what):
            rest = f"{side}_bin"
            continue
        for item in items:
            colour, shape = item.split("_")
            if re.search(rf"the {colour} {shape}\b|everything {colour}\b|the {shape}s?\b", what):
                assert item not in where, f"{item} twice in {instruction!r}"
                where[item] = f"{side}_bin"
    return {item: where.get(item, rest) for item in items}


def deliver(station: Station, places: dict[str, str]) -> None:
    """Lay each item into a bin, with the arms at home, and let it come to rest."""
    taken: dict[str, int] = {}
    for item, name in places.items():
        centre = station.position(name)
        n = taken[name] = taken.get(name, -1) + 1
        put(station, item, centre[0] - 0.07 + 0.045 * n, centre[1])
        station.data.joint(item).qpos[2] = 0.03
    for _ in range(40):
        station.step(station.home)


def test_the_words_alone_say_what_goes_where(station):
    words, assignments = set(), set()
    for seed in range(60):
        station.reset(seed)
        assert read(station.instruction, station.task.items) == goals(station), station.instruction
        words.add(station.instruction)
        assignments.add(tuple(goals(station).values()))
    assert len(words) > 30 and len(assignments) >= 5


def test_at_least_one_thing_starts_out_of_reach_of_every_arm_that_reaches_its_bin(station):
    for seed in range(30):
        station.reset(seed)

        def reached(point: np.ndarray) -> set[str]:
            return {arm for arm, x in ARMS.items() if np.hypot(point[0] - x, point[1] - 0.5) < REACH}

        starts = {item: reached(station.position(item)) for item in station.task.items}
        assert all(starts.values()), "nobody reaches it"
        ends = {item: reached(station.position(name)) for item, name in goals(station).items()}
        assert any(not starts[item] & ends[item] for item in starts)


def test_things_start_apart_and_at_rest(station):
    for seed in range(20):
        station.reset(seed)
        places = np.array([station.position(item) for item in station.task.items])
        between = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(len(places))
        assert between.min() > 0.075
        assert np.abs(station.data.qvel).max() < 0.02
        assert not station.success and not station.failure


@pytest.mark.parametrize("level", ["easy", "two", "three", "six"])
def test_held_out_starts_and_looks_are_not_those_of_train(level):
    starts = {}
    for variant in ("train", "held_out"):
        station = STATIONS.get((level, variant)) or Station(ROBOT, level=level, variant=variant, render=False)
        places = []
        for seed in range(25):
            station.reset(seed)
            places.append([np.round(station.position(item)[:2], 4) for item in station.task.items])
        starts[variant] = np.array(places), set(station.task.items)
    (train, names), (held_out, others) = starts["train"], starts["held_out"]
    assert not names & others
    low, high = train[:, 0].min(0), train[:, 0].max(0)  # of the first thing; tolerance: it settles
    inside = np.all((held_out[:, 0] > low + 0.002) & (held_out[:, 0] < high - 0.002), axis=1)
    assert not inside.any()


def test_what_lies_where_the_words_say_is_a_success(station):
    station.reset(1)
    deliver(station, goals(station))
    assert station.success and not station.failure and station.stage == 1.0


def test_all_put_away_but_one_in_a_wrong_bin_is_a_failure(station):
    station.reset(1)
    places = goals(station)
    bins = sorted({place.name for place in station.task._task.bins})
    astray = station.task.items[0]
    places[astray] = next(name for name in bins if name != places[astray])
    deliver(station, places)
    assert station.failure and not station.success


def test_a_wrong_bin_is_no_failure_while_something_waits(station):
    station.reset(1)
    places = goals(station)
    bins = sorted({place.name for place in station.task._task.bins})
    deliver(station, {i: next(n for n in bins if n != places[i]) for i in station.task.items[:1]})
    assert not station.failure and not station.success


def test_a_thing_off_the_table_is_a_failure(station):
    station.reset(1)
    station.data.joint(station.task.items[-1]).qpos[:3] = [0.0, 0.1, -0.1]
    station.step(station.home)
    assert station.failure and not station.success


def test_a_mirror_that_never_saw_the_seed_knows_the_goals():
    station = STATIONS["six", "train"]
    mirror = Station(ROBOT, level="six", render=False)
    mirror.reset(99)
    for seed in (4, 5, 6):
        station.reset(seed)
        mirror.restore(station.snapshot())
        assert goals(mirror) == goals(station)
        np.testing.assert_array_equal(Expert(mirror).act(), Expert(station).act())
        deliver(station, goals(station))
        mirror.restore(station.snapshot())
        assert mirror.success and mirror.stage == 1.0


def test_the_same_seed_gives_the_same_run_bit_for_bit():
    runs = []
    for station in (STATIONS["three", "train"], Station(ROBOT, level="three", render=False)):
        station.reset(8)
        drive(station, 3.0)
        runs.append((station.instruction, station.snapshot().tobytes()))
    assert runs[0] == runs[1]


@pytest.mark.slow
@pytest.mark.parametrize(("level", "variant", "seeds"), [("three", "train", 2), ("six", "held_out", 1)])
def test_the_expert_sorts_everything_and_hands_over_in_the_air(level, variant, seeds):
    station = STATIONS[level, variant]
    for seed in range(7000, 7000 + seeds):
        station.reset(seed)
        expert = Expert(station)
        handed = 0
        while not station.success and station.time < station.time_limit:
            station.step(expert.act())
            assert not station.failure
            both = [i for i in station.task.items if all(station.touching(arm, i) == 2 for arm in ARMS)]
            handed += any(not station.supported(item) for item in both)
        assert station.success, f"seed {seed}: stage {station.stage:.2f}"
        assert handed > 3, "nothing was in both hands in the air"
        assert station.time < 0.75 * station.time_limit


@pytest.mark.parametrize("item", [0, 2], ids=["cube", "bar"])
def test_the_expert_takes_a_thing_out_of_a_wrong_bin(item):
    station = STATIONS["three", "train"]
    station.reset(2)
    name = station.task.items[item]
    wrong = {"left_bin": "right_bin", "right_bin": "left_bin"}[goals(station)[name]]
    deliver(station, {name: wrong})
    drive(station, station.time_limit)
    assert station.success, f"stage {station.stage:.2f}"


def test_random_actions_never_succeed_nor_break_physics():
    station = STATIONS["six", "train"]
    rng = np.random.default_rng(0)
    for seed in range(2):
        station.reset(seed)
        for action in rng.uniform(ROBOT.lower, ROBOT.upper, (120, ROBOT.action_dim)):
            station.step(action)
            assert not station.success and 0.0 <= station.stage < 1.0
        assert np.isfinite(station.snapshot()).all()
        assert not any(w.number for w in station.data.warning), "MuJoCo warned"

import numpy as np
import pytest

from aloe_sim.expert import Expert, Skill
from aloe_sim.station import Station
from aloe_sim.tasks.sorting import BIN, BIN_INNER, BIN_WALL, BLOCK
from sim_tools import ROBOT, drive, jolt, put

STATION = Station(ROBOT, render=False)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "seeds", "limit"), [("easy", 20, 5.0), ("two", 8, 9.0)])
def test_the_expert_succeeds_quickly_on_every_seed(level, seeds, limit):
    station = Station(ROBOT, level=level, render=False)
    for seed in range(7000, 7000 + seeds):
        station.reset(seed)
        drive(station, station.time_limit)
        assert station.success, f"seed {seed}: stage {station.stage:.2f}"
        assert station.time < limit, f"seed {seed}: {station.time:.1f} s"


def test_commands_stay_within_limits_and_start_where_the_arms_are():
    for seed in range(3):
        STATION.reset(seed)
        jolt(STATION, np.random.default_rng(seed), 0.6)
        expert = Expert(STATION)
        before = STATION.joint_positions()
        while not STATION.success and STATION.time < 8.0:
            command = expert.act()
            assert (np.abs(command - before) <= ROBOT.velocity * ROBOT.dt + 1e-6).all()
            assert (command >= ROBOT.lower).all() and (command <= ROBOT.upper).all()
            STATION.step(command)
            before = command


def test_the_expert_recovers_after_the_arms_were_thrown_about():
    recovered = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        STATION.reset(4000 + seed)
        drive(STATION, rng.uniform(0.3, 2.2))
        for _ in range(2):
            jolt(STATION, rng, 0.7)
        if STATION.failure:
            continue  # pushed out of reach: nothing to recover
        start = STATION.time
        drive(STATION, 8.0)
        recovered.append(STATION.success)
        assert STATION.time - start < 8.0
    assert np.mean(recovered) >= 0.9 and len(recovered) >= 8


@pytest.mark.parametrize("side", ["front", "back", "left", "right"])
def test_the_expert_picks_up_a_block_that_leans_on_the_bin(side):
    beyond = BIN_INNER + 2 * BIN_WALL + BLOCK + 0.004
    offset = {"front": (0.03, -beyond[1]), "back": (-0.05, beyond[1]), "left": (-beyond[0], 0.0)}
    place = BIN + offset.get(side, (beyond[0], 0.02))
    STATION.reset(1)
    put(STATION, "red_block", *place)
    drive(STATION, 7.0)
    assert STATION.success


@pytest.mark.parametrize("yaw", [-0.7, 0.0, 0.5])
def test_the_fingers_take_a_block_however_it_is_turned(yaw):
    STATION.reset(1)
    put(STATION, "red_block", -0.15, 0.45, yaw)
    drive(STATION, 6.0)
    assert STATION.success


def test_a_flawless_expert_does_the_same_whatever_its_seed():
    paths = []
    for seed in (1, 2):
        STATION.reset(3)
        expert = Expert(STATION, Skill(), seed)
        for _ in range(60):
            STATION.step(expert.act())
        paths.append(STATION.snapshot())
    np.testing.assert_array_equal(*paths)


def test_a_lesser_skill_differs_by_seed_and_still_succeeds():
    lengths = set()
    for seed in range(5):
        STATION.reset(3)
        drive(STATION, 8.0, Skill(speed=0.9, speed_spread=0.2, aim_spread=0.004, wobble=0.004), seed)
        assert STATION.success
        lengths.add(STATION.tick)
    assert len(lengths) > 1

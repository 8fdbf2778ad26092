"""What must hold for every task at every level, whoever drives."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_core.safety import SafetyFilter
from aloe_sim.expert import Expert
from aloe_sim.scene import TABLE_CENTRE, TABLE_SIZE
from aloe_sim.station import Station
from aloe_sim.tasks import TASKS
from sim_tools import ROBOT

LEVELS = [(task, level) for task, kind in TASKS.items() for level in kind.levels]
each_level = pytest.mark.parametrize(("task", "level"), LEVELS, ids=["/".join(pair) for pair in LEVELS])
TICKS = 200  # of adversarial driving, and after a restore
REPLAYED = 500  # ticks, of an episode that is run again, at most
# How deep things may lie in each other, m.
HANDLED = 0.006  # anything, while the expert works; pads are as soft as rubber
RESTING = 0.003  # objects and what stands still, meanwhile
FORCED = 0.015  # objects and what stands still, under an arm that presses with all its force
SEEDS = 5


class Run(NamedTuple):
    """An episode of the expert."""

    seed: int
    commands: list[np.ndarray]
    snapshots: list[bytes]  # one more than commands
    deepest: float  # m, any contact
    deepest_resting: float


@cache
def station_for(task: str, level: str) -> Station:
    return Station(ROBOT, task, level, render=False)


@cache
def run_of(task: str, level: str) -> Run:
    """Let the expert work, looking at every tick."""
    station = station_for(task, level)
    station.reset(SEEDS)
    expert = Expert(station)
    run = Run(SEEDS, [], [station.snapshot().tobytes()], 0.0, 0.0)
    while not station.success and station.tick < station.steps_limit:
        run.commands.append(expert.act())
        station.step(run.commands[-1])
        check(station)
        run.snapshots.append(station.snapshot().tobytes())
        run = run._replace(
            deepest=max(run.deepest, station.penetration()),
            deepest_resting=max(run.deepest_resting, depth(station)),
        )
    return run


def check(station: Station) -> None:
    """Assert what holds at every tick."""
    assert np.isfinite(station.snapshot()).all()
    assert not (station.success and station.failure)
    assert 0.0 <= station.stage <= 1.0
    assert not any(warning.number for warning in station.data.warning), "MuJoCo warned"


def depth(station: Station, other_items: bool = True) -> float:
    """Return how deep an object is in what never moves, or in another one, m."""
    model, contact = station.model, station.data.contact
    rigid = (contact.geom >= 0).all(axis=1)  # cloth has no geom
    bodies = model.geom_bodyid[contact.geom[rigid]]
    items = np.isin(bodies, [model.body(item).id for item in station.task.items])
    static = model.body_weldid[bodies] == 0
    met = items.any(axis=1) & (static.any(axis=1) | (items.all(axis=1) & other_items))
    return -min(contact.dist[rigid][met], default=0.0)


def fell_through(station: Station) -> list[str]:
    """Return objects whose centre of mass is inside the table or right below it."""
    beside = np.array(TABLE_SIZE[:2]) - 0.05
    places = {item: station.data.body(item).xipos for item in station.task.items}
    return [i for i, p in places.items() if -0.3 < p[2] < -0.005 and (np.abs(p[:2] - TABLE_CENTRE) < beside).all()]


@each_level
def test_the_expert_succeeds_and_what_it_handles_stays_whole(task, level):
    run = run_of(task, level)
    assert station_for(task, level).time_limit > len(run.commands) * ROBOT.dt, "too late"
    assert run.deepest < HANDLED
    assert run.deepest_resting < RESTING


@each_level
def test_the_same_seed_and_actions_give_the_same_run_bit_for_bit(task, level):
    run = run_of(task, level)
    other = Station(ROBOT, task, level, render=False)
    other.reset(run.seed)
    assert other.snapshot().tobytes() == run.snapshots[0]
    for command, state in zip(run.commands[:REPLAYED], run.snapshots[1:], strict=False):
        other.step(command)
        assert other.snapshot().tobytes() == state


@each_level
def test_a_restored_station_goes_on_as_the_original(task, level):
    run = run_of(task, level)
    mirror = Station(ROBOT, task, level, render=False)
    for start in (len(run.commands) // 3, 2 * len(run.commands) // 3):
        mirror.restore(np.frombuffer(run.snapshots[start]))
        assert mirror.snapshot().tobytes() == run.snapshots[start]
        for command, state in zip(run.commands[start : start + TICKS], run.snapshots[start + 1 :], strict=False):
            mirror.step(command)
            assert mirror.snapshot().tobytes() == state


@each_level
def test_progress_ends_at_one_and_is_less_before(task, level):
    run = run_of(task, level)
    stages = [np.frombuffer(state)[3] for state in run.snapshots]
    assert stages[-1] == 1.0 and max(stages[:-1]) < 1.0
    assert stages[0] < 0.5


@each_level
@pytest.mark.parametrize("variant", ["train", "held_out"])
def test_every_start_is_sound_and_its_instruction_repeatable(task, level, variant):
    station = Station(ROBOT, task, level, variant, render=False)
    words = []
    for seed in range(SEEDS):
        station.reset(seed)
        check(station)
        assert not station.success and not station.failure
        assert station.tick == 0 and station.instruction
        assert depth(station) < RESTING
        words.append(station.instruction)
    station.reset(0)
    assert station.instruction == words[0]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_several_phrases_and_starts(task):
    station = station_for(task, TASKS[task].levels[0])
    words, starts = set(), set()
    for seed in range(20):
        station.reset(seed)
        words.add(station.instruction)
        starts.add(station.snapshot().tobytes())
    assert len(words) >= 3
    assert len(starts) == 20


@each_level
@settings(max_examples=3, derandomize=True)
@given(seed=st.integers(0, 2**31 - 1), hold=st.sampled_from([1, 10, 40]), smooth=st.booleans())
def test_random_actions_neither_succeed_nor_break_anything(task, level, seed, hold, smooth):
    station = station_for(task, level)
    station.reset(seed)
    rng = np.random.default_rng(seed)
    safety = SafetyFilter(ROBOT)
    motion = safety.rest(station.joint_positions())
    for tick in range(TICKS):
        if tick % hold == 0:
            target = rng.uniform(ROBOT.lower, ROBOT.upper)
        motion, _ = safety.apply(target, motion)
        station.step(motion.position if smooth else target)
        check(station)
        assert not station.success
        assert depth(station, other_items=False) < FORCED
        assert fell_through(station) == []


@each_level
def test_zero_actions_never_succeed(task, level):
    station = station_for(task, level)
    for seed in (0, 1):
        station.reset(seed)
        for _ in range(TICKS):
            station.step(np.zeros(ROBOT.action_dim))
            check(station)
            assert not station.success

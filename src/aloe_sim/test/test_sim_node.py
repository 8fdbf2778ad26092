import time

import numpy as np
import pytest
import yaml
from aloe_msgs.srv import DisturbStation
from sensor_msgs.msg import Image

from aloe_ros import stamps
from aloe_ros.testing import node_process
from aloe_sim.disturb import Disturbance, load_disturbances
from aloe_sim.nodes import privileged
from aloe_sim.station import Station
from robot_side import CONTRACT, PATIENCE, ROBOT, Arbiter, running

SECOND = 1_000_000_000


@pytest.fixture
def arbiter(tmp_path):
    with running(tmp_path, "sim_node", lockstep=True) as node:
        yield Arbiter(node)


def pixels(msg: Image) -> np.ndarray:
    return np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.width, 3)


def test_lockstep_over_dds_is_the_station_bit_for_bit(arbiter):
    station = Station(ROBOT)
    station.reset(7)
    frames = {name: [station.render(name).copy()] for name in ROBOT.camera_names}
    response = arbiter.reset(7)
    assert response.success, response.message
    assert response.instruction == station.instruction
    assert response.time_limit == station.time_limit
    arbiter.until_joints(1)
    start = arbiter.stamp
    assert start % SECOND == 0

    rng = np.random.default_rng(0)
    expected = [station.joint_positions()]
    for _ in range(11):
        action = np.clip(expected[-1] + rng.normal(0, 0.05, ROBOT.action_dim), ROBOT.lower, ROBOT.upper)
        arbiter.step(action)
        station.step(action)
        expected.append(station.joint_positions())
        for name in ROBOT.camera_names:
            if station.frame_due(name):
                frames[name].append(station.render(name).copy())

    assert [stamps.to_ns(m.header.stamp) for m in arbiter.joints] == [start + i * SECOND // 50 for i in range(12)]
    np.testing.assert_array_equal([np.float32(m.position) for m in arbiter.joints], expected)
    for name, images in frames.items():
        arbiter.until(lambda n=name, i=images: len(arbiter.images[n]) == len(i), f"frames of {name}")
        got = arbiter.images[name]
        assert [stamps.to_ns(m.header.stamp) - start for m in got] == [0, SECOND // 10, SECOND // 5]
        np.testing.assert_array_equal([pixels(m) for m in got], images)
        assert (got[0].encoding, got[0].header.frame_id) == ("rgb8", ROBOT.camera(name).frame_id)

    arbiter.until(lambda: len(arbiter.states) == 12, "12 privileged states")
    last = privileged.read(arbiter.states[-1])
    assert (last.stamp, last.tick) == (arbiter.stamp, 11)
    mirror = Station(ROBOT, render=False)
    mirror.restore(last.snapshot)
    np.testing.assert_array_equal(mirror.joint_positions(), expected[-1])


def test_only_the_command_with_the_stamp_of_the_joint_state_moves_the_simulation(arbiter):
    arbiter.reset(1)
    arbiter.until_joints(1)
    home, dt = arbiter.joints[0].position, SECOND // 50
    for wrong in (arbiter.stamp - dt, arbiter.stamp + dt, 0):
        arbiter.send(wrong, np.zeros(14))
    arbiter.send(arbiter.stamp, np.zeros(14), ["nobody", *ROBOT.joint_names[1:]])
    arbiter.step(home)
    assert len(arbiter.joints) == 2
    np.testing.assert_allclose(arbiter.joints[1].position, home, atol=2e-3)


def test_stamps_rise_over_resets_and_an_answer_to_the_old_episode_is_ignored(arbiter):
    arbiter.reset(1)
    arbiter.until_joints(1)
    home, first = arbiter.joints[0].position, arbiter.stamp
    arbiter.step(home)
    unanswered = arbiter.stamp
    arbiter.reset(2)
    arbiter.until_joints(3)
    assert arbiter.stamp > unanswered
    assert arbiter.stamp % SECOND == first % SECOND == 0
    arbiter.send(unanswered, np.zeros(14))
    arbiter.step(home)
    assert arbiter.stamp % SECOND == SECOND // 50
    clock = [stamps.to_ns(m.clock) for m in arbiter.clock]
    assert clock == sorted(set(clock))


def test_an_unknown_task_is_refused_by_name_and_the_node_goes_on(arbiter):
    response = arbiter.reset(1, task="juggling")
    assert not response.success
    assert "juggling" in response.message
    assert arbiter.reset(1).success
    arbiter.until_joints(1)


def test_without_lockstep_the_simulation_runs_on_its_own_and_applies_the_newest_command(tmp_path):
    with running(tmp_path, "sim_node", lockstep=False, real_time_factor=4.0) as node:
        arbiter = Arbiter(node)
        arbiter.reset(3)
        arbiter.until_joints(10)
        home = np.array(arbiter.joints[0].position)
        np.testing.assert_allclose(arbiter.joints[9].position, home, atol=2e-3)
        goal = home.copy()
        goal[0] += 0.2
        arbiter.send(0, goal)
        arbiter.until(lambda: abs(arbiter.joints[-1].position[0] - goal[0]) < 0.02, "the commanded pose")


def measured_factor(tmp_path, factor: float, ticks: int) -> float:
    """Return simulated over wall seconds of so many ticks."""
    with running(tmp_path, "sim_node", lockstep=False, real_time_factor=factor) as node:
        arbiter = Arbiter(node)
        arbiter.reset(3)
        arbiter.until_joints(5)
        first, start = arbiter.stamp, time.monotonic()
        arbiter.until(lambda: arbiter.stamp - first >= ticks * SECOND // 50, f"{ticks} ticks")
        return (arbiter.stamp - first) / SECOND / (time.monotonic() - start)


@pytest.mark.alone
def test_the_speed_on_the_wall_clock_follows_the_factor(tmp_path):
    slow, faster = measured_factor(tmp_path, 0.5, 25), measured_factor(tmp_path, 2.0, 100)
    assert 0.3 < slow < 0.65
    assert slow < faster < 2.4
    assert measured_factor(tmp_path, 0.0, 200) > 1.3 * slow, "as fast as possible"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task": "juggling"}, "Unknown task 'juggling'"),
        ({"level": "impossible"}, "unknown level 'impossible'"),
        ({"variant": "odd"}, "unknown variant 'odd'"),
        ({"randomisation": "wild"}, "randomisation = 'wild': expected one of none, low, high"),
        ({"real_time_factor": -1.0}, "real_time_factor = -1.0: expected 0.0 to 100.0"),
        ({"disturbances": "/nowhere/schedule.yaml"}, "/nowhere/schedule.yaml: cannot be read"),
        ({"contract": {"cameras": [("name", "ceiling")]}}, "no camera 'ceiling'"),
        ({"contract": {"joints": [("name", "left_knee")]}}, "no joint 'left_knee'"),
        ({"contract": {"control": [("rate_hz", -50)]}}, "rate_hz"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_it_cannot_serve_ends_it_at_once_with_one_sentence_and_code_2(tmp_path, given, words):
    given = {"contract": CONTRACT, **given}
    if isinstance(given["contract"], dict):
        document = yaml.safe_load(CONTRACT.read_text())
        for section, changes in given["contract"].items():
            part = document[section]
            (part[0] if isinstance(part, list) else part).update(changes)
        given["contract"] = tmp_path / "robot.yaml"
        given["contract"].write_text(yaml.safe_dump(document))
    log = tmp_path / "sim_node.log"
    with node_process("aloe_sim.nodes.sim_node", given, log) as process:
        assert process.wait(PATIENCE) == 2
    said = log.read_text()
    assert words in said and "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


def test_it_is_disturbed_by_hand_and_says_what_it_cannot_do(arbiter):
    client = arbiter.node.create_client(DisturbStation, "station/disturb")

    def disturb(**given):
        return arbiter.call(client, DisturbStation.Request(**given), timeout=PATIENCE)

    assert "before the first station/reset" in disturb(kind="nudge").message
    station = Station(ROBOT, render=False)
    station.reset(3)
    arbiter.reset(3)
    arbiter.until_joints(1)
    for given, words in (
        ({"kind": "earthquake"}, "expected one of nudge, drop, swap, freeze"),
        ({"kind": "nudge", "target": "teapot"}, "there is red_block"),
        ({"kind": "nudge", "speed": -1.0}, "speed = -1.0: expected 0 or more"),
        ({"kind": "freeze", "target": "ceiling"}, "there is top, wrist_left, wrist_right"),
    ):
        answer = disturb(**given)
        assert not answer.success and words in answer.message
    answer = disturb(kind="nudge", target="red_block", speed=1.0, seed=5)
    assert answer.success and answer.message == "nudge red_block at 0.00 s"
    station.disturb(Disturbance("nudge", "red_block", speed=1.0, seed=5))
    for _ in range(10):
        arbiter.step(station.home)
        station.step(station.home)
    arbiter.until(lambda: len(arbiter.states) == 11, "11 privileged states")
    assert privileged.read(arbiter.states[-1]).snapshot.tobytes() == station.snapshot().tobytes()


def test_randomisation_and_schedule_are_those_of_the_station(tmp_path):
    schedule = tmp_path / "schedule.yaml"
    schedule.write_text("{nudge: 1.0, freeze: 1.0, window: [0.0, 0.1], duration: [0.1, 0.1]}")
    station = Station(ROBOT, randomisation="high", disturbances=load_disturbances(schedule))
    station.reset(7)
    frames = [station.render("top").copy()]
    with running(tmp_path, "sim_node", lockstep=True, randomisation="high", disturbances=schedule) as node:
        arbiter = Arbiter(node)
        arbiter.reset(7)
        arbiter.until_joints(1)
        for _ in range(20):
            arbiter.step(station.home)
            station.step(station.home)
            if station.frame_due("top"):
                frames.append(station.render("top").copy())
        arbiter.until(lambda: len(arbiter.images["top"]) == len(frames), "frames of top")
        np.testing.assert_array_equal([pixels(m) for m in arbiter.images["top"]], frames)
        arbiter.until(lambda: len(arbiter.states) == 21, "21 privileged states")
        assert privileged.read(arbiter.states[-1]).snapshot.tobytes() == station.snapshot().tobytes()
    assert {one.kind for _, one in station.disturbed} == {"nudge", "freeze"}
    station.close()

import numpy as np
import pytest
from sensor_msgs.msg import Image

from aloe_ros import stamps
from aloe_sim.nodes import privileged
from aloe_sim.station import Station
from robot_side import ROBOT, Arbiter, running

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

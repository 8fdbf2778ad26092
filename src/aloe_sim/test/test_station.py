import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from aloe_core.errors import AloeError
from aloe_sim.expert import Expert
from aloe_sim.station import Station
from aloe_sim.tasks.sorting import AREA, BIN, BLOCK
from sim_tools import ROBOT, drive, jolt, put


@pytest.fixture(scope="module")
def station():
    return Station(ROBOT, render=False)


@pytest.fixture(scope="module")
def eyes():
    station = Station(ROBOT, level="two")
    yield station
    station.close()


def actions(seed: int, ticks: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(ROBOT.lower, ROBOT.upper, (ticks, ROBOT.action_dim))


@pytest.mark.parametrize("level", ["easy", "two"])
def test_the_same_seed_and_actions_give_the_same_run_bit_for_bit(level):
    runs = []
    for _ in range(2):
        station = Station(ROBOT, level=level, render=False)
        station.reset(11)
        for action in actions(0, 50):
            station.step(action)
        runs.append(station.snapshot())
    assert runs[0].tobytes() == runs[1].tobytes()


def test_a_reset_forgets_what_went_before(station):
    station.reset(5)
    fresh, words = station.snapshot(), station.instruction
    jolt(station, np.random.default_rng(0), 0.5)
    station.reset(6)
    assert station.snapshot().tobytes() != fresh.tobytes()
    station.reset(5)
    assert station.snapshot().tobytes() == fresh.tobytes()
    assert station.instruction == words


def test_an_episode_starts_at_rest_at_home_at_time_zero(station):
    for seed in range(10):
        station.reset(seed)
        assert (station.tick, station.time, station.stamp) == (0, 0.0, 0)
        assert np.abs(station.data.qvel).max() < 0.01
        np.testing.assert_allclose(station.joint_positions(), station.home, atol=1e-3)
        assert station.position("red_block")[2] == pytest.approx(BLOCK, abs=1e-3)
        assert not station.success and not station.failure
        assert "red block" in station.instruction


def test_both_sides_and_several_phrases_occur(station):
    sides, words = set(), set()
    for seed in range(30):
        station.reset(seed)
        sides.add(station.position("red_block")[0] > 0)
        words.add(station.instruction)
    assert sides == {False, True}
    assert len(words) >= 3


@pytest.mark.parametrize("level", ["easy", "two"])
def test_random_actions_neither_succeed_nor_break_physics(level):
    station = Station(ROBOT, level=level, render=False)
    for seed in range(4):
        station.reset(seed)
        for action in actions(seed, 150):
            station.step(action)
            assert not station.success
            assert 0.0 <= station.stage <= 1.0
        assert np.isfinite(station.snapshot()).all()
        assert not any(w.number for w in station.data.warning), "MuJoCo warned"


def test_zero_actions_never_succeed(station):
    station.reset(1)
    for _ in range(station.steps_limit):
        station.step(np.zeros(ROBOT.action_dim))
        assert not station.success


def test_time_runs_in_ticks_of_the_contract(station):
    station.reset(0)
    for _ in range(7):
        station.step(station.home)
    assert station.tick == 7
    assert station.time == pytest.approx(7 * ROBOT.dt)
    assert station.stamp == 140_000_000
    assert station.steps_limit * ROBOT.dt == pytest.approx(station.time_limit)


def test_a_restored_station_goes_on_as_the_original(station):
    mirror = Station(ROBOT, render=False)
    station.reset(3)
    drive(station, 1.3)
    state = station.snapshot()
    mirror.restore(state)
    assert mirror.snapshot().tobytes() == state.tobytes()
    assert mirror.touching("right", "red_block") == station.touching("right", "red_block")
    for action in actions(1, 20):
        station.step(action)
        mirror.step(action)
        assert mirror.snapshot().tobytes() == station.snapshot().tobytes()


def test_a_snapshot_leads_with_time_flags_and_stage(station):
    station.reset(3)
    drive(station, 5.0)
    assert station.success
    assert station.snapshot()[:4].tolist() == [station.time, 1.0, 0.0, 1.0]


def test_a_snapshot_of_another_level_is_refused(station):
    with pytest.raises(AloeError, match="expected"):
        station.restore(Station(ROBOT, level="two", render=False).snapshot())


@pytest.mark.parametrize("place", [(AREA[0, 1] + 0.03, 0.4), (0.0, AREA[1, 0] - 0.05), (0.1, AREA[1, 1] + 0.1)])
def test_a_block_out_of_reach_is_a_failure_and_no_success(station, place):
    station.reset(2)
    put(station, "red_block", *place)
    station.step(station.home)
    assert station.failure and not station.success


def test_a_block_fallen_off_the_table_is_a_failure(station):
    station.reset(2)
    station.data.joint("red_block").qpos[:3] = [0.0, 0.1, -0.1]
    station.step(station.home)
    assert station.failure and not station.success


def test_a_block_in_the_bin_is_a_success_only_at_rest(station):
    station.reset(2)
    put(station, "red_block", *BIN)
    station.data.joint("red_block").qpos[2] = 0.06
    station.step(station.home)
    assert not station.success, "still falling"
    for _ in range(50):
        station.step(station.home)
    assert station.success and not station.failure
    assert station.stage == 1.0


def test_a_block_that_no_hand_lifted_into_the_bin_is_a_failure(station):
    station.reset(2)
    put(station, "red_block", *BIN)
    station.data.userdata[:] = 0
    for _ in range(50):
        station.step(station.home)
    assert station.failure and not station.success


def test_a_block_held_over_the_bin_is_no_success(station):
    station.reset(3)
    held = 0
    expert = Expert(station)
    while not station.success:
        station.step(expert.act())
        if max(station.touching(arm, "red_block") for arm in ("left", "right")) > 0:
            held += 1
            assert not station.success
    assert held > 20


def test_with_two_blocks_one_is_not_enough(eyes):
    eyes.reset(2)
    put(eyes, "red_block", *BIN)
    for _ in range(40):
        eyes.step(eyes.home)
    assert not eyes.success
    put(eyes, "green_block", BIN[0] + 0.05, BIN[1])
    for _ in range(40):
        eyes.step(eyes.home)
    assert eyes.success


def test_frames_have_the_contract_s_size_and_are_repeatable(eyes):
    eyes.reset(4)
    for camera in ROBOT.cameras:
        frame = eyes.render(camera.name).copy()
        assert frame.shape == (camera.height, camera.width, 3) and frame.dtype == np.uint8
        assert frame.std() > 10, "nothing to see"
        np.testing.assert_array_equal(frame, eyes.render(camera.name))


def test_the_top_camera_shows_each_block_at_least_8_pixels_wide_wherever_it_starts(eyes):
    for seed in range(6):
        eyes.reset(seed)
        image = eyes.render("top").astype(int)
        red = (image[..., 0] > 100) & (image[..., 1] < 60)
        green = (image[..., 1] > 70) & (image[..., 0] < 60) & (image[..., 2] < 60)
        for colour, seen in (("red", red), ("green", green)):
            across = np.ptp(np.nonzero(seen.any(0))[0]) + 1
            assert across >= 8 and seen.sum() >= 49, f"{colour}, seed {seed}: {across} pixels across"


def test_frames_are_due_at_the_camera_s_rate(eyes):
    eyes.reset(0)
    due = []
    for _ in range(11):
        due.append(eyes.frame_due("top"))
        eyes.step(eyes.home)
    assert np.flatnonzero(due).tolist() == [0, 5, 10]


def test_joints_follow_the_contract_s_order(station):
    flipped = ROBOT.model_copy(update={"joints": ROBOT.joints[::-1]})
    other = Station(flipped, render=False)
    station.reset(9)
    other.reset(9)
    for action in actions(4, 10):
        station.step(action)
        other.step(action[::-1])
    np.testing.assert_array_equal(station.joint_positions(), other.joint_positions()[::-1])


def test_fingers_mirror_each_other(station):
    station.reset(0)
    action = station.home.copy()
    action[ROBOT.joint_names.index("left_gripper")] = 0.03
    for _ in range(30):
        station.step(action)
    left, right = (station.data.joint(f"vx300s_left/{side}_finger").qpos[0] for side in ("left", "right"))
    assert left == pytest.approx(0.03, abs=1e-3) and right == pytest.approx(-left, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "cooking"}, "Unknown task 'cooking': expected one of sorting"),
        ({"level": "hard"}, "unknown level 'hard': expected one of easy, two"),
        ({"variant": "odd"}, "unknown variant 'odd'"),
    ],
)
def test_an_unknown_task_level_or_variant_says_what_there_is(arguments, words):
    with pytest.raises(AloeError, match=words):
        Station(ROBOT, render=False, **arguments)


def test_a_contract_the_simulator_cannot_serve_is_refused():
    camera = ROBOT.cameras[0].model_copy(update={"name": "ceiling"})
    with pytest.raises(AloeError, match="no camera 'ceiling'"):
        Station(ROBOT.model_copy(update={"cameras": (camera,)}), render=False)
    with pytest.raises(AloeError, match="no joint 'right_gripper'"):
        Station(ROBOT.model_copy(update={"joints": ROBOT.joints[:-1]}), render=False)
    joint = ROBOT.joints[0].model_copy(update={"name": "left_knee"})
    with pytest.raises(AloeError, match="no joint 'left_knee'"):
        Station(ROBOT.model_copy(update={"joints": (joint, *ROBOT.joints[1:])}), render=False)


def test_a_station_without_cameras_says_so(station):
    with pytest.raises(AloeError, match="render=False"):
        station.render("top")


def test_physics_runs_at_an_integer_number_of_steps_per_tick(station):
    assert station.model.opt.timestep <= 0.0025
    assert (ROBOT.dt / station.model.opt.timestep) == pytest.approx(round(ROBOT.dt / station.model.opt.timestep))
    assert station.model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST


def test_without_opengl_physics_runs_and_a_frame_says_what_to_install():
    code = (
        "from sim_tools import ROBOT; from aloe_sim.station import Station; from aloe_core.errors import AloeError\n"
        "station = Station(ROBOT); station.step(station.home)\n"
        "try: station.render('top')\n"
        "except AloeError as error: print(error)"
    )
    environment = {**os.environ, "MUJOCO_GL": "disable"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "install libegl1" in done.stdout

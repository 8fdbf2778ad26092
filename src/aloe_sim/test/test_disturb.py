import numpy as np
import pytest

from aloe_core.errors import AloeError
from aloe_sim.disturb import KINDS, Disturbance, Disturbances, load_disturbances
from aloe_sim.expert import Expert
from aloe_sim.rollout import run_episode
from aloe_sim.station import Station
from sim_tools import ROBOT, drive

ALL = Disturbances(nudge=1, drop=1, swap=1, freeze=1, window=(0.2, 4.0))


@pytest.fixture(scope="module")
def station():
    return Station(ROBOT, render=False)


@pytest.fixture(scope="module")
def pair():
    return Station(ROBOT, level="two", render=False)


@pytest.fixture(scope="module")
def eyes():
    station = Station(ROBOT)
    yield station
    station.close()


def rest(station: Station, ticks: int = 40) -> None:
    for _ in range(ticks):
        station.step(station.home)


def hold(station: Station, item: str) -> Expert:
    """Let the expert lift the item and return it, still holding."""
    expert = Expert(station)
    while not (station.holder(item) and station.position(item)[2] > 0.06):
        station.step(expert.act())
    return expert


def test_a_nudge_moves_the_object_a_few_centimetres_over_the_table(station):
    directions = []
    for seed in range(4):
        station.reset(seed)
        before = station.position("red_block")
        station.disturb(Disturbance("nudge", seed=seed))
        rest(station)
        moved = station.position("red_block") - before
        assert 0.02 < np.hypot(*moved[:2]) < 0.05
        assert abs(moved[2]) < 1e-3
        directions.append(np.arctan2(moved[1], moved[0]))
    assert np.ptp(directions) > 0.5, "each seed another way"


def test_what_is_held_drops_and_the_expert_picks_it_up_again(station):
    station.reset(1)
    expert = hold(station, "red_block")
    station.disturb(Disturbance("drop"))
    assert station.disturbed[-1][1].target == "red_block"
    for _ in range(15):
        station.step(expert.act())
    assert station.holder("red_block") is None
    assert station.supported("red_block")
    assert not station.data.qfrc_applied.any(), "the fingers obey again"
    drive(station, 8.0)
    assert station.success


def test_a_drop_lives_in_the_state_so_that_a_mirror_goes_on_alike(station):
    station.reset(1)
    hold(station, "red_block")
    station.disturb(Disturbance("drop"))
    mirror = Station(ROBOT, render=False)
    mirror.restore(station.snapshot())
    command = station.joint_positions()
    for _ in range(30):
        station.step(command)
        mirror.step(command)
        assert mirror.snapshot().tobytes() == station.snapshot().tobytes()


def test_two_objects_exchange_places_and_lie_still(pair):
    pair.reset(3)
    red, green = pair.position("red_block"), pair.position("green_block")
    pair.disturb(Disturbance("swap", "green_block"))
    rest(pair)
    np.testing.assert_allclose(pair.position("red_block"), green, atol=1e-3)
    np.testing.assert_allclose(pair.position("green_block"), red, atol=1e-3)


def test_the_only_object_moves_to_another_start_place(station):
    station.reset(3)
    before = station.position("red_block")
    station.disturb(Disturbance("swap", seed=8))
    rest(station)
    after = station.position("red_block")
    assert np.hypot(*(after - before)[:2]) > 0.03
    assert 0.05 <= abs(after[0]) <= 0.2 and 0.35 <= after[1] <= 0.53
    assert station.speed("red_block") < 0.01


def test_a_frozen_camera_repeats_its_frame_and_then_sees_again(eyes):
    eyes.reset(0)
    eyes.disturb(Disturbance("freeze", "top", duration=0.2))
    frozen, other = eyes.render("top"), eyes.render("wrist_right")
    eyes.disturb(Disturbance("swap", seed=8))
    expert = Expert(eyes)
    for _ in range(10):
        np.testing.assert_array_equal(eyes.render("top"), frozen)
        eyes.step(expert.act())
    assert (eyes.render("wrist_right") != other).any(), "only the camera that was named"
    assert (eyes.render("top") != frozen).any()
    eyes.disturb(Disturbance("freeze", "top"))
    eyes.reset(0)
    np.testing.assert_array_equal(eyes.render("top"), frozen, "a reset ends it")


@pytest.mark.parametrize(
    ("disturbance", "words"),
    [
        (Disturbance("earthquake"), "Unknown disturbance 'earthquake': expected one of nudge, drop, swap, freeze"),
        (Disturbance("nudge", "teapot"), "Disturbance nudge: no object 'teapot'; there is red_block"),
        (Disturbance("swap", "teapot"), "no object 'teapot'"),
        (Disturbance("drop", "teapot"), "no object 'teapot'"),
        (Disturbance("freeze", "ceiling"), "no camera 'ceiling'; there is top, wrist_left, wrist_right"),
        (Disturbance("nudge", speed=-1), "speed = -1: expected 0 or more"),
        (Disturbance("freeze", duration=-1), "duration = -1: expected 0 or more"),
        (Disturbance("drop"), "no hand holds red_block"),
    ],
)
def test_what_cannot_be_done_says_so_in_one_sentence_and_changes_nothing(station, disturbance, words):
    station.reset(0)
    before = station.snapshot()
    with pytest.raises(AloeError, match=words) as caught:
        station.disturb(disturbance)
    assert str(caught.value).count(".") == 1
    assert station.snapshot().tobytes() == before.tobytes()
    assert station.disturbed == []


def test_an_object_in_a_hand_is_not_swapped(pair):
    pair.reset(3)
    expert = Expert(pair)
    while not any(pair.holder(item) for item in pair.task.items):
        pair.step(expert.act())
    held = next(item for item in pair.task.items if pair.holder(item))
    with pytest.raises(AloeError, match=f"{held} is in a hand"):
        pair.disturb(Disturbance("swap", held))


def test_without_objects_that_move_freely_it_says_so(station, monkeypatch):
    monkeypatch.setattr(station.task, "items", ())
    with pytest.raises(AloeError, match="Task sorting has no objects that move freely, so none can be nudged"):
        station.disturb(Disturbance("nudge"))


def test_a_schedule_that_a_task_without_such_objects_cannot_keep_is_refused_at_once():
    Station(ROBOT, "laundry_folding", "easy", render=False, disturbances=Disturbances(freeze=1))
    with pytest.raises(AloeError, match="Task laundry_folding has no objects that move freely, so none can be dropped"):
        Station(ROBOT, "laundry_folding", "easy", render=False, disturbances=Disturbances(drop=0.1))


def test_a_schedule_draws_each_kind_at_its_rate_in_its_window():
    schedule = Disturbances(nudge=0.5, drop=1.0, window=(2.0, 3.0))
    plans = [schedule.plan(seed) for seed in range(400)]
    kinds = [one.kind for plan in plans for _, one in plan]
    assert kinds.count("drop") == 400 and 160 < kinds.count("nudge") < 240
    assert set(kinds) == {"drop", "nudge"}
    assert all(2.0 <= when <= 3.0 for plan in plans for when, _ in plan)
    assert schedule.plan(7) == schedule.plan(7) != schedule.plan(8)


def test_scheduled_disturbances_happen_and_are_the_same_for_the_same_seed(eyes):
    station = Station(ROBOT, disturbances=ALL)
    first = run_episode(station, 5, supervision="demonstrate")
    again = run_episode(station, 5, supervision="demonstrate")
    station.close()
    assert {kind for _, kind, _ in first.info["disturbed"]} == set(KINDS)
    assert first.info["disturbed"] == again.info["disturbed"]
    np.testing.assert_array_equal(first.state, again.state)
    assert all(first.frames[name].jpegs == again.frames[name].jpegs for name in ROBOT.camera_names)
    calm = run_episode(eyes, 5, supervision="demonstrate")
    np.testing.assert_array_equal(first.state[0], calm.state[0])
    assert calm.info["disturbed"] == []
    assert first.steps > calm.steps


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nudge: 1.5", "nudge = 1.5: expected"),
        ("window: [3, 1]", "window as \\[least, most\\]"),
        ("hail: 1", "hail = 1: expected"),
    ],
)
def test_a_bad_schedule_names_file_key_and_value(tmp_path, text, words):
    path = tmp_path / "schedule.yaml"
    path.write_text(text)
    with pytest.raises(AloeError, match=words):
        load_disturbances(path)

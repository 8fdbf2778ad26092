import numpy as np
import pytest
import yaml

from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError
from aloe_sim.expert import Expert
from aloe_sim.human import Attention, HumanConfig, ScriptedHuman, load_human
from aloe_sim.rollout import run_episode
from aloe_sim.station import Station
from sim_tools import ROBOT, ROOT, put

STATION = Station(ROBOT, render=False)


def stand_still(station: Station, human: ScriptedHuman) -> list:
    """Let nobody drive but the person until the label or the time limit; return the person's actions."""
    deeds, command = [], station.home
    while station.tick < station.steps_limit:
        deeds.append(human.update())
        if deeds[-1].label is not None:
            return deeds
        command = deeds[-1].command if deeds[-1].engaged else command
        station.step(command)
    return deeds


def test_the_shipped_configuration_is_the_default():
    assert load_human(ROOT / "config/human.yaml") == HumanConfig()
    shipped = yaml.safe_load((ROOT / "config/human.yaml").read_text())
    assert shipped == HumanConfig().model_dump(mode="json"), "every key is shown"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patience: -1", "patience = -1: expected"),
        ("reaction: [2.0, 1.0]", "shortest, longest"),
        ("correction: {speed: fast}", "correction.speed = 'fast'"),
        ("temper: 3", "temper = 3: expected"),
        ("- 1", "a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_bad_configuration_names_file_key_and_value(tmp_path, text, words):
    path = tmp_path / "human.yaml"
    path.write_text(text)
    with pytest.raises(AloeError) as caught:
        load_human(path)
    assert str(path) in str(caught.value) and words in str(caught.value)


def test_a_missing_configuration_says_so(tmp_path):
    with pytest.raises(AloeError, match="cannot be read"):
        load_human(tmp_path / "nobody.yaml")


def test_an_unknown_supervision_is_refused():
    with pytest.raises(AloeError, match="'boss': expected one of demonstrate, supervise, watch"):
        ScriptedHuman(STATION, None, 0, "boss")


def test_a_watcher_never_drives_and_labels_what_it_sees():
    STATION.reset(1)
    human = ScriptedHuman(STATION, None, 0, "watch")
    for _ in range(120):
        assert not human.update().engaged
        STATION.step(STATION.home)
    put(STATION, "red_block", 0.0, 0.665)
    for _ in range(40):
        STATION.step(STATION.home)
    deed = human.update()
    assert deed.label is Outcome.SUCCESS and not deed.engaged and deed.command is None
    put(STATION, "red_block", 0.4, 0.4)
    STATION.step(STATION.home)
    assert human.update().label is Outcome.FAILURE


def test_a_demonstrator_drives_from_the_first_tick_to_success():
    STATION.reset(4)
    deeds = stand_still(STATION, ScriptedHuman(STATION, None, 4, "demonstrate"))
    assert all(d.engaged and d.command.shape == (14,) for d in deeds[:-1])
    assert deeds[-1].label is Outcome.SUCCESS and not deeds[-1].engaged


def test_a_supervisor_takes_over_from_a_robot_that_does_nothing_after_patience_and_reaction():
    config = HumanConfig()
    starts = set()
    for seed in range(5):
        STATION.reset(seed)
        human = ScriptedHuman(STATION, config, seed)
        tick = 0
        while not human.update().engaged:
            STATION.step(STATION.home)
            tick += 1
        low, high = (config.patience + r for r in config.reaction)
        assert low - ROBOT.dt <= tick * ROBOT.dt <= high + 2 * ROBOT.dt
        starts.add(tick)
    assert len(starts) > 1, "the reaction is drawn anew"


def test_the_takeover_begins_where_the_arms_are():
    STATION.reset(2)
    human = ScriptedHuman(STATION, None, 2)
    while True:
        deed = human.update()
        if deed.engaged:
            break
        STATION.step(STATION.home + 0.1 * np.sin(STATION.time))
    assert np.abs(deed.command - STATION.joint_positions()).max() <= (ROBOT.velocity * ROBOT.dt).max()


def test_a_correction_is_handed_back_once_the_block_is_lifted():
    config = HumanConfig(reserve=0.5)
    STATION.reset(6)
    human = ScriptedHuman(STATION, config, 6)
    was_driving = False
    command = STATION.home
    while True:
        deed = human.update()
        if was_driving and not deed.engaged:
            break
        was_driving = deed.engaged
        command = deed.command if deed.engaged else command
        STATION.step(command)
        assert STATION.time < 7.0
    assert human.attention is Attention.WATCHING
    assert STATION.position("red_block")[2] > 0.05
    assert not STATION.success


def test_a_dropped_block_is_noticed_at_once_and_not_only_after_patience():
    config = HumanConfig(patience=60.0, reserve=0.0)
    STATION.reset(3)
    human = ScriptedHuman(STATION, config, 3)
    expert = Expert(STATION)
    while STATION.stage < 0.7:
        assert not human.update().engaged
        STATION.step(expert.act())
    put(STATION, "red_block", 0.2, 0.4)
    dropped = STATION.time
    while not human.update().engaged:
        STATION.step(STATION.home)
    assert STATION.time - dropped <= config.reaction[1] + 3 * ROBOT.dt


def test_near_the_time_limit_the_person_keeps_the_robot_to_the_end():
    config = HumanConfig(patience=60.0, reserve=4.0)
    STATION.reset(8)
    deeds = stand_still(STATION, ScriptedHuman(STATION, config, 8))
    engaged = [d.engaged for d in deeds[:-1]]
    first = engaged.index(True)
    assert first * ROBOT.dt >= STATION.time_limit - config.reserve + config.reaction[0] - ROBOT.dt
    assert all(engaged[first:]), "no handing back with so little time left"
    assert deeds[-1].label is Outcome.SUCCESS


def test_a_watched_expert_is_left_alone():
    for seed in range(4):
        STATION.reset(seed)
        human = ScriptedHuman(STATION, None, seed)
        expert = Expert(STATION)
        while not STATION.success:
            assert not human.update().engaged
            STATION.step(expert.act())


def test_the_same_seed_gives_the_same_person():
    runs = []
    for seed in (5, 5, 6):
        STATION.reset(1)
        deeds = stand_still(STATION, ScriptedHuman(STATION, None, seed, "demonstrate"))
        runs.append(np.array([d.command for d in deeds[:-1]]))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert runs[0].shape != runs[2].shape or (runs[0] != runs[2]).any()


def test_an_inattentive_person_takes_over_later_by_a_lapse_now_and_then():
    config = HumanConfig(inattention=0.5, lapse=(2.0, 2.5), reserve=0.0)
    late = 0
    for seed in range(12):
        STATION.reset(seed)
        human = ScriptedHuman(STATION, config, seed)
        while not human.update().engaged:
            STATION.step(STATION.home)
        reaction = STATION.time - config.patience
        dt = 2 * ROBOT.dt
        in_time = config.reaction[0] - dt <= reaction <= config.reaction[1] + dt
        assert in_time or config.reaction[0] + 2.0 - dt <= reaction <= config.reaction[1] + 2.5 + dt
        late += not in_time
    assert 0 < late < 12


def test_a_late_label_names_what_was_seen_and_the_person_goes_on_until_then():
    config = HumanConfig(label_delay=(0.3, 0.6))
    STATION.reset(4)
    human = ScriptedHuman(STATION, config, 4, "demonstrate")
    seen = None
    while True:
        deed = human.update()
        if seen is None and STATION.success:
            seen = STATION.time
            put(STATION, "red_block", 0.4, 0.4)  # lost before the label is said
        if deed.label is not None:
            break
        assert deed.engaged
        STATION.step(deed.command)
    assert STATION.failure
    assert deed.label is Outcome.SUCCESS
    assert 0.3 - 1e-9 <= STATION.time - seen <= 0.6 + ROBOT.dt


def test_a_label_after_the_time_limit_comes_too_late():
    prompt, late = HumanConfig(), HumanConfig(label_delay=(1.0, 1.0))
    length = run_episode(STATION, 4, None, "demonstrate", prompt, record=False).steps * ROBOT.dt
    for human, outcome in ((prompt, Outcome.SUCCESS), (late, Outcome.NONE)):
        episode = run_episode(STATION, 4, None, "demonstrate", human, record=False, time_limit=length + 0.5)
        assert episode.outcome is outcome

"""Timelines of a takeover on a robot: at each moment one input, and what has to follow from it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.arbiter import Arbiter
from aloe_core.contract import load_contract
from aloe_core.control import AskMode, Mode, RobotState, TaskInfo
from aloe_core.kinematics import load_model
from aloe_teleop.takeover import Grip, Reaction, Takeover

ALOHA = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")
OWN = {"left": 11, "right": 12}
CONTRACT = ALOHA.model_copy(
    update={"takeover": ALOHA.takeover.model_copy(update={"ramp": 0.5, "deadman_buttons": OWN})}
)
MAP, PAD = CONTRACT.takeover, CONTRACT.takeover.pad
pytest.importorskip("mujoco")
MODEL = load_model(CONTRACT)
J = CONTRACT.action_dim
LEFT, RIGHT, BOTH = np.arange(7), np.arange(7, 14), np.arange(14)
HOME = np.zeros(J)
HOME[[1, 8]], HOME[[2, 9]], HOME[[4, 11]] = -0.5, 0.5, 1.3
MS = 1_000_000
AXES = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]  # triggers at rest


@dataclass
class Stage:
    """A takeover, fed by the millisecond."""

    takeover: Takeover

    def joy(self, ms: int, *held: int, axes: list[float] | None = None, count: int = 13) -> Reaction:
        return self.takeover.on_joy(ms * MS, [int(i in held) for i in range(count)], axes or AXES)

    def lead(self, ms: int, joints: np.ndarray = BOTH, offset: float = 0.0) -> Reaction:
        return self.takeover.on_leader(ms * MS, ms * MS, joints, HOME[joints] + offset)

    def robot(self, ms: int, position: np.ndarray = HOME) -> Reaction:
        return self.takeover.on_follower(ms * MS, ms * MS, position)

    def watch(self, ms: int) -> Reaction:
        return self.takeover.watch(ms * MS, True)


@pytest.fixture
def stage() -> Stage:
    stage = Stage(Takeover(CONTRACT, lockstep=False, joy_timeout=0.5))
    stage.robot(0)
    return stage


@pytest.fixture
def jogged() -> Stage:
    stage = Stage(Takeover(CONTRACT, lockstep=False, joy_timeout=0.5, clutch=True, model=MODEL))
    stage.robot(0)
    return stage


def test_a_pad_that_is_unplugged_cannot_drive_by_autorepeat(stage):
    stage.lead(0)
    assert stage.takeover.on_presence(True) == Reaction()
    assert stage.joy(1, MAP.deadman_button).command.engaged
    reaction = stage.takeover.on_presence(False)
    assert reaction.hold and "was unplugged" in reaction.refusal and stage.takeover.grip is Grip.RELEASED
    for ms in range(50, 1000, 50):  # the driver repeats the last message
        stage.lead(ms)
        reaction = stage.joy(ms, MAP.deadman_button)
        assert reaction.command is None and "the joystick is not there" in reaction.refusal
    stage.takeover.on_presence(True)
    stage.lead(1000)
    assert stage.joy(1000, MAP.deadman_button).command is None  # still the old message, or a finger that never moved
    stage.joy(1010)
    assert stage.joy(1020, MAP.deadman_button).command.engaged


def test_a_pad_that_went_silent_has_to_be_seen_open_before_it_drives_again(stage):
    stage.lead(0)
    stage.joy(0, MAP.deadman_button)
    stage.lead(500)
    assert stage.watch(500) == Reaction()
    stage.lead(501)
    reaction = stage.watch(501)
    assert reaction.hold and "No joy message for 0.50 s" in reaction.refusal
    stage.lead(600)
    assert stage.joy(600, MAP.deadman_button).command is None
    stage.joy(610)
    assert stage.joy(620, MAP.deadman_button).command.engaged


def test_presence_is_said_again_and_again_but_a_loss_only_once(stage):
    assert "plug it in" in stage.takeover.on_presence(False).refusal
    assert stage.takeover.on_presence(False) == Reaction()
    assert stage.takeover.on_presence(True) == stage.takeover.on_presence(True) == Reaction()


def test_a_reader_that_comes_without_a_pad_lets_go_of_a_robot_that_another_driver_drove(stage):
    stage.lead(0)
    assert stage.joy(0, MAP.deadman_button).command.engaged
    assert stage.takeover.on_presence(False).hold and stage.takeover.engaged == ()


def test_without_a_word_of_presence_a_robot_that_asks_for_it_is_not_driven():
    stage = Stage(Takeover(CONTRACT, lockstep=False, needs_presence=True))
    stage.robot(0)
    stage.lead(0)
    assert "nobody says that the joystick is there" in stage.joy(0, MAP.deadman_button).refusal
    stage.takeover.on_presence(True)
    stage.joy(10)
    stage.lead(10)
    assert stage.joy(20, MAP.deadman_button).command.engaged


def test_each_arm_has_its_own_dead_man_and_the_command_names_the_driven_arms_only(stage):
    stage.lead(0)
    assert list(stage.joy(0, OWN["left"]).command.joints) == list(LEFT)
    assert list(stage.lead(10).command.joints) == list(LEFT)
    assert list(stage.joy(20, OWN["left"], OWN["right"]).command.joints) == list(BOTH)
    assert list(stage.joy(30, OWN["right"]).command.joints) == list(RIGHT)
    command = stage.joy(40).command
    assert not command.engaged and len(command.joints) == 0


def test_a_misaligned_arm_is_refused_by_itself_but_under_one_dead_man_for_both_neither_drives(stage):
    stage.lead(0, LEFT, 0.5)
    stage.lead(0, RIGHT)
    reaction = stage.joy(0, OWN["left"], OWN["right"])
    assert "0.50 rad at left_waist" in reaction.refusal and list(reaction.command.joints) == list(RIGHT)
    assert stage.takeover.grips == {"left": Grip.REFUSED, "right": Grip.ENGAGED}
    assert not stage.joy(10).command.engaged
    reaction = stage.joy(20, MAP.deadman_button)
    assert reaction.command is None and "left_waist" in reaction.refusal
    stage.lead(30)
    assert stage.takeover.grip is Grip.REFUSED  # aligned by now, but not pressed again
    stage.joy(40)
    assert stage.joy(50, MAP.deadman_button).command.engaged


def test_the_first_command_is_where_the_robot_was_told_to_be_and_the_grip_stays_firm(stage):
    told = HOME + 0.01
    told[6] = -0.02  # squeezing: the fingers are held apart by what they hold
    stage.takeover.on_executed(0, told)
    stage.lead(0, BOTH, 0.2)
    command = stage.joy(0, MAP.deadman_button).command
    np.testing.assert_allclose(command.positions, told)
    stage.lead(500, BOTH, 0.2)
    np.testing.assert_allclose(stage.lead(501, BOTH, 0.2).command.positions, HOME + 0.2)


def test_a_command_that_the_robot_does_not_follow_is_no_place_to_begin(stage):
    stage.takeover.on_executed(0, HOME + 1.0)  # moved by hand since
    stage.lead(0)
    arm = [i for i, joint in enumerate(CONTRACT.joints) if joint.unit == "rad"]
    np.testing.assert_allclose(stage.joy(0, MAP.deadman_button).command.positions[arm], HOME[arm])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_leader_that_turns_non_finite_lets_both_arms_go_and_the_next_finite_one_does_not_drive(stage, bad):
    stage.lead(0)
    stage.joy(0, MAP.deadman_button)
    reaction = stage.takeover.on_leader(10 * MS, 10 * MS, LEFT, np.full(7, bad))
    assert reaction.hold and reaction.command is None and "no finite joint positions" in reaction.refusal
    assert stage.lead(20).command is None
    assert stage.joy(30, MAP.deadman_button).command is None


def test_one_silent_leader_lets_both_arms_go_though_the_other_still_speaks(stage):
    stage.lead(0, LEFT)
    stage.lead(0, RIGHT)
    stage.joy(0, MAP.deadman_button)
    assert stage.lead(100, LEFT).command.engaged
    reaction = stage.lead(101, LEFT)
    assert reaction.hold and "The right leader was silent for 0.10 s" in reaction.refusal
    assert stage.takeover.engaged == ()


def test_too_few_buttons_and_too_few_axes_name_what_is_missing(stage, jogged):
    stage.lead(0)
    stage.joy(0, MAP.deadman_button)
    reaction = stage.joy(10, MAP.deadman_button, count=12)
    assert reaction.hold and "Joy has 12 buttons, but takeover.deadman_buttons.right is button 12" in reaction.refusal
    reaction = jogged.joy(0, MAP.deadman_button, axes=[0.0] * 7)
    assert "Joy has 7 axes, but takeover.pad.axes.pitch.axis is axis 7: check the map." in reaction.refusal
    assert "not finite at axis 0 (takeover.pad.axes.x.axis)" in jogged.joy(0, axes=[np.nan, *AXES[1:]]).refusal


def test_the_clutch_moves_the_selected_arm_and_an_arm_once_moved_stays_in_hand(jogged):
    deadman, clutch = MAP.deadman_button, PAD.clutch_button
    assert jogged.joy(0, deadman).command is None  # no clutch, no takeover
    assert jogged.joy(0, clutch).command is None  # no dead-man, no takeover
    command = jogged.joy(10, deadman, clutch).command
    assert list(command.joints) == list(LEFT)
    np.testing.assert_allclose(command.positions, HOME[LEFT])
    away = [0.0, 1.0, *AXES[2:]]
    jogged.joy(20, deadman, clutch, axes=away)
    moved = jogged.robot(40).command
    assert moved.stamp == 40 * MS and np.abs(moved.positions - HOME[LEFT]).max() > 1e-3

    jogged.joy(50, deadman, axes=away)  # clutch let go: the sticks may be re-centred
    np.testing.assert_allclose(jogged.robot(60).command.positions, moved.positions)
    jogged.joy(70, deadman, PAD.select_buttons["right"])
    assert jogged.takeover.selected == "right" and list(jogged.robot(80).command.joints) == list(LEFT)
    assert list(jogged.joy(90, deadman, clutch, axes=away).command.joints) == list(BOTH)
    both = jogged.robot(100).command
    np.testing.assert_allclose(both.positions[LEFT], moved.positions)
    assert np.abs(both.positions[RIGHT] - HOME[RIGHT]).max() > 1e-3
    assert not jogged.joy(110).command.engaged


def test_a_trigger_counts_only_after_it_was_seen_at_rest(jogged):
    held = (MAP.deadman_button, PAD.clutch_button)
    untouched = [0.0] * 8  # what drivers say of triggers before the first touch
    jogged.joy(0, *held, axes=untouched)
    np.testing.assert_allclose(jogged.robot(20).command.positions[6], HOME[6])
    jogged.joy(30, *held)
    jogged.joy(40, *held, axes=[0.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    assert jogged.robot(60).command.positions[6] > HOME[6] + 1e-3


def test_a_gap_in_the_joint_states_moves_the_hand_no_further_than_a_tenth_of_a_second(jogged):
    held = (MAP.deadman_button, PAD.clutch_button)
    jogged.joy(0, *held, axes=[0.0, 1.0, *AXES[2:]])
    first = jogged.robot(20).command.positions
    after = jogged.robot(5020).command.positions
    assert (np.abs(after - first) <= CONTRACT.velocity[LEFT] * 0.1 + 1e-9).all()


inputs = st.one_of(
    st.tuples(st.just("joy"), st.sets(st.sampled_from([MAP.deadman_button, 5, 2, 3, *OWN.values()]))),
    st.tuples(st.just("lead"), st.sampled_from([0.0, 0.1, 0.5, np.nan])),
    st.tuples(st.just("robot"), st.none()),
    st.tuples(st.just("presence"), st.booleans()),
    st.tuples(st.just("watch"), st.booleans()),
)


@pytest.mark.parametrize("clutch", [False, True])
@given(timeline=st.lists(st.tuples(st.integers(0, 300), inputs), max_size=40))
def test_no_timeline_drives_without_a_present_pad_a_held_dead_man_and_finite_input(clutch, timeline):
    model = MODEL if clutch else None
    stage = Stage(Takeover(CONTRACT, lockstep=False, joy_timeout=0.5, clutch=clutch, model=model))
    ms, held, present = 0, set(), True
    for step, (kind, value) in timeline:
        ms += step
        if kind == "joy":
            held, reaction = value, stage.joy(ms, *value, axes=[0.5] * 8)
        elif kind == "lead":
            reaction = stage.lead(ms, BOTH, value)
        elif kind == "robot":
            reaction = stage.robot(ms)
        elif kind == "presence":
            present, reaction = value, stage.takeover.on_presence(value)
        else:
            reaction = stage.takeover.watch(ms * MS, value)
        for group in stage.takeover.engaged:
            assert present and (MAP.deadman_button in held or OWN[group] in held)
        if reaction.command is not None and reaction.command.engaged:
            driven = {CONTRACT.groups[i] for i in CONTRACT.group_of[reaction.command.joints]}
            assert driven == set(stage.takeover.engaged) and np.isfinite(reaction.command.positions).all()
        assert not (reaction.hold and stage.takeover.engaged) and bool(reaction.refusal) >= reaction.hold


def test_in_a_supervised_episode_a_lost_pad_holds_and_only_a_new_press_and_release_bring_the_policy_back(stage):
    arbiter = Arbiter(CONTRACT, lockstep=False)
    arbiter.update(0, TaskInfo("episode", "supervise"))
    arbiter.update(0, RobotState(0, HOME))
    arbiter.update(0, AskMode(Mode.POLICY, "start"))
    stage.lead(0)
    arbiter.update(MS, stage.joy(1, MAP.deadman_button).command)
    assert arbiter.mode is Mode.HUMAN
    lost = stage.takeover.on_presence(False)
    assert lost.command is None
    arbiter.update(2 * MS, AskMode(Mode.HOLD, lost.refusal))
    arbiter.update(3 * MS, stage.takeover.released())  # the heartbeat of the node
    assert arbiter.mode is Mode.HOLD

    stage.takeover.on_presence(True)
    stage.joy(10)
    stage.lead(20)
    arbiter.update(20 * MS, stage.joy(20, MAP.deadman_button).command)
    assert arbiter.mode is Mode.HUMAN
    arbiter.update(30 * MS, stage.joy(30).command)
    assert arbiter.mode is Mode.POLICY

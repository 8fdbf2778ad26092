from pathlib import Path

import numpy as np
import pytest

from aloe_core.contract import load_contract
from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError
from aloe_teleop.joystick import help_text
from aloe_teleop.takeover import Grip, Takeover

CONTRACT = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")
MAP = CONTRACT.takeover
J = CONTRACT.action_dim
ALL = np.arange(J)
MS = 1_000_000


def buttons(*held: int) -> list[int]:
    return [int(i in held) for i in range(8)]


def ready(**kwargs) -> Takeover:
    takeover = Takeover(CONTRACT, **{"lockstep": False, **kwargs})
    takeover.on_follower(0, 1000, np.zeros(J))
    return takeover


def test_dead_man_and_aligned_leader_drive_with_the_leader_stamp_until_release():
    takeover = ready()
    assert takeover.on_joy(0, buttons(MAP.deadman_button)).command is None  # no leader yet
    command = takeover.on_leader(0, 1000, ALL, np.full(J, 0.01)).command
    assert command.engaged and command.stamp == 1000
    assert takeover.on_leader(0, 1020, ALL, np.full(J, 0.9)).command.stamp == 1020  # checked at engagement only
    command = takeover.on_joy(0, buttons()).command
    assert not command.engaged and command.stamp == 1020
    assert takeover.on_leader(0, 1040, ALL, np.zeros(J)).command is None


def test_a_press_after_the_leader_message_engages_at_once_if_that_message_is_fresh():
    takeover = ready()
    takeover.on_leader(0, 1000, ALL, np.zeros(J))
    assert takeover.on_joy(50 * MS, buttons(MAP.deadman_button)).command.engaged
    takeover.on_joy(60 * MS, buttons())
    assert takeover.on_joy(500 * MS, buttons(MAP.deadman_button)).command is None
    assert takeover.grip is Grip.WAITING


@pytest.mark.parametrize(("stamp", "engaged"), [(999, False), (1000, True)])
def test_in_lock_step_a_leader_message_is_fresh_if_it_answers_the_newest_joint_state(stamp, engaged):
    takeover = ready(lockstep=True)
    takeover.on_leader(0, stamp, ALL, np.zeros(J))
    takeover.on_joy(10**12, buttons(MAP.deadman_button))
    assert (takeover.grip is Grip.ENGAGED) == engaged


def test_a_leader_out_of_line_is_refused_until_the_dead_man_is_pressed_again():
    takeover = ready()
    takeover.on_joy(0, buttons(MAP.deadman_button))
    far = np.zeros(J)
    far[2] = 0.5
    reaction = takeover.on_leader(0, 1000, ALL, far)
    assert reaction.command is None and "0.50 rad at left_elbow" in reaction.refusal
    assert takeover.on_leader(0, 1020, ALL, np.zeros(J)).command is None
    takeover.on_joy(0, buttons())
    assert takeover.on_joy(1, buttons(MAP.deadman_button)).command.engaged


def test_a_gripper_may_differ_and_a_one_armed_leader_is_compared_on_its_own_joints():
    takeover = ready()
    takeover.on_joy(0, buttons(MAP.deadman_button))
    gripper = CONTRACT.joint_names.index("left_gripper")
    command = takeover.on_leader(0, 1000, np.array([gripper]), np.array([0.057])).command
    assert command.engaged and list(command.joints) == [gripper]


def test_a_press_before_the_first_joint_state_waits_for_it():
    takeover = Takeover(CONTRACT, lockstep=True)
    takeover.on_joy(0, buttons(MAP.deadman_button))
    assert takeover.on_leader(0, 1000, ALL, np.zeros(J)).command is None
    assert takeover.on_follower(0, 1000, np.zeros(J)).command.engaged


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_leader_without_finite_positions_never_engages(bad):
    takeover = ready()
    takeover.on_joy(0, buttons(MAP.deadman_button))
    assert "no finite joint positions" in takeover.on_leader(0, 1000, ALL, np.full(J, bad)).refusal


def test_a_lost_or_silent_joystick_asks_for_a_hold_since_a_release_would_hand_back_to_the_policy():
    for kwargs, now, present, says in (
        ({}, 0, False, "gone"),
        ({"joy_timeout": 0.5}, 501 * MS, True, "No joy message"),
    ):
        takeover = ready(**kwargs)
        takeover.on_joy(0, buttons(MAP.deadman_button))
        takeover.on_leader(now, 1000, ALL, np.zeros(J))
        assert not takeover.watch(now - 1 * MS, True).hold
        reaction = takeover.watch(now, present)
        assert reaction.hold and reaction.command is None and says in reaction.refusal
        assert takeover.grip is Grip.RELEASED


def test_a_joystick_with_too_few_buttons_lets_go_and_names_the_button():
    takeover = ready()
    takeover.on_joy(0, buttons(MAP.deadman_button))
    takeover.on_leader(0, 1000, ALL, np.zeros(J))
    reaction = takeover.on_joy(0, [0] * 5)
    assert reaction.hold and "takeover.estop_button is button 6" in reaction.refusal


def test_labels_follow_the_press_and_not_the_level():
    takeover = ready()
    assert takeover.on_joy(0, buttons(MAP.success_button)).label is Outcome.SUCCESS
    assert takeover.on_joy(0, buttons(MAP.success_button)).label is None
    assert takeover.on_joy(0, buttons(MAP.failure_button)).label is Outcome.FAILURE


def test_two_functions_on_one_button_are_refused():
    doubled = CONTRACT.model_copy(update={"takeover": MAP.model_copy(update={"success_button": 4})})
    with pytest.raises(AloeError, match=r"takeover.success_button = 4: expected a button of its own"):
        Takeover(doubled, lockstep=False)


def test_the_button_map_reads_as_a_person_would_say_it():
    assert help_text(CONTRACT, drives=False) == (
        "Joystick buttons: 4 hold to drive, 6 e-stop, 0 label success, 1 label failure, 10 print this map"
    )
    told = help_text(CONTRACT, drives=True).splitlines()
    assert told[0].endswith("5 hold with the dead-man to move, 2 select left, 3 select right")
    assert "0 x (-0.15 m/s)" in told[1] and "3 yaw (+0.8 rad/s)" in told[1]
    assert told[2] == "Joystick triggers: 2 open gripper, 5 close gripper"

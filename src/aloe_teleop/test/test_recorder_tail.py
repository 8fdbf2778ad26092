"""When a stopped take is complete: the decision alone, on a lock-step timeline of 20 ms."""

from aloe_teleop.recorder_tail import Tail

DT = 20_000_000
PERIOD = 5 * DT


def whole(label: int = 0, **changes) -> bool:
    """Ten steps (0 to 9), the state after them, the frames due at 5 and 10: `changes` to that."""
    arrived = {"executed": 9 * DT, "joints": 10 * DT, "frames": [(10 * DT, PERIOD)], "driving": False, "quiet": 0.0}
    return Tail(**{**arrived, **changes}).whole(label, DT)


def test_everything_here_is_whole():
    assert whole()
    assert whole(label=10 * DT)


def test_the_state_after_the_last_step_is_waited_for():
    assert not whole(joints=9 * DT)
    assert not whole(joints=None)


def test_the_frame_due_with_the_last_state_is_waited_for():
    assert not whole(frames=[(10 * DT, PERIOD), (5 * DT, PERIOD)])
    assert whole(joints=9 * DT, executed=8 * DT, frames=[(5 * DT, PERIOD)])


def test_a_camera_that_never_sent_is_not_waited_for():
    assert whole(frames=[(None, PERIOD)])


def test_the_labelled_state_and_the_step_before_it_are_waited_for():
    assert not whole(label=11 * DT)
    assert not whole(label=11 * DT, joints=11 * DT, executed=9 * DT)
    assert whole(label=11 * DT, joints=11 * DT, executed=10 * DT, frames=[(10 * DT, PERIOD)])


def test_while_the_arbiter_drives_another_step_may_come():
    assert not whole(driving=True)
    assert whole(driving=True, quiet=0.5)


def test_a_take_without_steps_ends_at_once_unless_the_arbiter_drives():
    assert whole(executed=None)
    assert not whole(executed=None, driving=True)
    assert whole(executed=None, driving=True, quiet=0.5)

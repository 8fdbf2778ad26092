"""Time in which a process could run."""

from aloe_teleop.awake import AwakeClock

MS = 1_000_000


def test_it_is_the_monotonic_clock_from_the_first_look_on():
    clock = AwakeClock(200 * MS)
    assert [clock.look(t * MS) for t in (7_000, 7_100, 7_230, 7_430)] == [0, 100 * MS, 230 * MS, 430 * MS]
    assert clock.now == 430 * MS


def test_a_stand_still_counts_as_one_look():
    clock = AwakeClock(200 * MS)
    clock.look(0)
    assert clock.look(60_000 * MS) == 200 * MS
    assert clock.look(60_100 * MS) == 300 * MS

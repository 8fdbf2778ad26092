"""A camera whose stamps go on while its picture stands still."""

from aloe_policy.camera_stats import CameraStats

PERIOD = 100_000_000  # ns


def test_the_same_picture_counts_from_its_first_frame_until_another_comes():
    stats = CameraStats(10.0)
    assert stats.frozen == 0.0
    for number, picture in enumerate([b"a", b"b", b"b", b"b", b"c"]):
        stats.add(number * PERIOD, picture)
        assert stats.frozen == {2: 0.1, 3: 0.2}.get(number, 0.0)


def test_a_clock_that_starts_over_starts_the_count_over():
    stats = CameraStats(10.0)
    for stamp in (5 * PERIOD, 9 * PERIOD, PERIOD):
        stats.add(stamp, b"a")
    assert stats.frozen == 0.0

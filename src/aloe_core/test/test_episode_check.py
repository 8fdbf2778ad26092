"""What `check` finds wrong with a bag, and what it lets pass."""

from __future__ import annotations

import pytest

from aloe_core.episode.check import Level, check_bag
from aloe_core.episode.data import Outcome
from aloe_core.episode.labels import TopicCount
from bagmaker import DT, Take, contract, image, jpeg, labels, take


def errors(bag) -> list[str]:
    return [p.text for p in check_bag(bag, contract()).problems if p.level is Level.ERROR]


def warnings(bag) -> list[str]:
    return [p.text for p in check_bag(bag, contract()).problems if p.level is Level.WARNING]


def close(writing: Take, last: int, **changes):
    return writing.writer.close(labels(label_stamp=(last + 1) * DT, **changes))


def test_a_good_bag_passes_with_its_missing_topics_named(tmp_path):
    bag = take(tmp_path, steps=60, label_stamp=61 * DT)
    assert check_bag(bag, contract()).ok
    assert all(text.startswith("nothing was recorded on /") for text in warnings(bag))
    assert "nothing was recorded on /control/mode." in warnings(bag)


def test_a_damaged_bag_fails_with_one_sentence(tmp_path):
    bag = take(tmp_path)
    file = bag / "take_0.mcap"
    file.write_bytes(file.read_bytes()[:-100])
    (error,) = errors(bag)
    assert "damaged" in error


def test_a_camera_below_its_promised_rate_fails(tmp_path):
    writing = Take(tmp_path)
    for k in range(150):
        writing.joints_only(k) if k % 10 == 5 else writing.state(k)
        writing.step(k)
    writing.state(150)
    found = errors(close(writing, 150))
    assert any(text.startswith("camera top: 16 of 30 messages") for text in found)
    assert any("camera top: 15 gaps, the longest 0.20 s" in text for text in found)


def test_missing_control_steps_fail(tmp_path):
    writing = Take(tmp_path)
    for k in [*range(20), *range(30, 50)]:
        writing.state(k)
        writing.step(k)
    writing.state(50)
    bag = close(writing, 50)
    assert "1 control steps have no successor, the first is step 19." in errors(bag)
    assert "control: 1 gaps, the longest 0.22 s." in warnings(bag)


def test_losses_the_recorder_knew_of_are_told_and_lost_steps_fail(tmp_path):
    topics = {
        "/control/executed": TopicCount(received=20, dropped=1),
        "/joint_states": TopicCount(received=21, dropped=2),
    }
    bag = take(tmp_path, label_stamp=21 * DT, topics=topics)
    assert errors(bag) == ["1 of 21 messages of /control/executed were lost."]
    assert "2 of 23 messages of /joint_states were lost." in warnings(bag)


def test_a_count_that_contradicts_the_label_fails(tmp_path):
    bag = take(tmp_path, label_stamp=21 * DT, topics={"/joint_states": TopicCount(received=22)})
    assert errors(bag) == ["/joint_states has 21 messages, its label says 22."]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label_stamp": 0}, "terminated without a label stamp"),
        ({"label_stamp": 10**12}, "the label stamp lies after the last joint state"),
        ({"outcome": Outcome.ABORTED, "label_stamp": 21 * DT}, "end is terminated but outcome is aborted"),
        ({"outcome": Outcome.NONE}, "unlabelled"),
        ({"contract_hash": "f" * 16}, "contract_hash = 'ffffffffffffffff'"),
    ],
)
def test_labels_that_make_no_sense_fail(tmp_path, changes, words):
    assert any(words in text for text in errors(take(tmp_path, **changes)))


def test_an_aborted_bag_is_a_warning_with_its_reason(tmp_path):
    writing = Take(tmp_path)
    writing.run(20)
    bag = writing.writer.abort("e-stop pressed", labels())
    assert errors(bag) == []
    assert "aborted: e-stop pressed." in warnings(bag)


def test_a_take_that_failed_its_quality_check_fails(tmp_path):
    bag = take(tmp_path, label_stamp=21 * DT, quality="/cameras/top: 5 gaps, the longest 0.30 s")
    assert errors(bag) == ["the take failed its quality check: /cameras/top: 5 gaps, the longest 0.30 s."]
    assert errors(take(tmp_path, "b", label_stamp=21 * DT, quality="passed")) == []


def test_a_camera_that_stops_leaves_control_steps_without_a_frame_recent_enough(tmp_path):
    writing = Take(tmp_path)
    for k in range(100):
        writing.state(k) if k <= 40 else writing.joints_only(k)
        writing.step(k)
    writing.state(100)
    found = errors(close(writing, 100))
    # the last frame is of step 40 and good for 0.3 s, 15 steps
    assert "camera top: no frame of the last 0.3 s at 44 of 100 control steps (the oldest 1.18 s)." in found


def test_frames_of_another_clock_are_not_aligned(tmp_path, monkeypatch):
    writing = Take(tmp_path)
    put = writing.put

    def shifted(channel: int, data: bytes, stamp: int) -> None:
        if channel in writing._images:
            data = image(stamp + 10**15, jpeg(0, 0))
        put(channel, data, stamp)

    monkeypatch.setattr(writing, "put", shifted)
    writing.run(20)
    assert any("at 20 of 20 control steps (none before any of them)" in text for text in errors(close(writing, 20)))

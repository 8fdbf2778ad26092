"""Queue, writer thread and account of one take, with real bags."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from aloe_msgs.msg import ExecutedStep
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader
from std_msgs.msg import String

from aloe_core.contract import load_contract
from aloe_core.episode.bag import read_labels
from aloe_core.episode.data import Outcome
from aloe_core.episode.labels import EpisodeLabels
from aloe_core.episode.message_types import find_message_type, ros_prefixes
from aloe_core.episode.metadata import Qos
from aloe_core.episode.quality import Limits
from aloe_core.errors import AloeError
from aloe_ros import stamps
from aloe_teleop.recorder_clock import TakeClock
from aloe_teleop.recorder_take import Arrival, Item, Stream, Take
from aloe_teleop.recorder_tap import Received
from aloe_teleop.recorder_topics import message_class, recorded_topics

CONTRACT_FILE = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"
DT = 20_000_000
EXECUTED, TEXT = 0, 1


def make(folder, **changes) -> Take:
    prefixes = ros_prefixes()
    streams = [
        Stream("/control/executed", find_message_type("aloe_msgs/msg/ExecutedStep", prefixes), [Qos()], 50.0),
        Stream("/text", find_message_type("std_msgs/msg/String", prefixes), [Qos()]),
    ]
    options = {"min_free": 0, "queue_bytes": 1 << 20, "executed": "/control/executed", "decode_step": decode}
    labels = EpisodeLabels(episode_id="E1", task="sorting", contract_hash="0" * 16)
    return Take(folder, "take", labels, streams, **{**options, **changes})


def decode(data: bytes) -> ExecutedStep:
    return deserialize_message(data, ExecutedStep)


def step(k: int, **fields):
    msg = ExecutedStep(episode_id="E1", tick=k, **fields)
    stamps.fill(msg.header.stamp, k * DT)
    return Arrival(Item(EXECUTED, serialize_message(msg), k * DT, k * DT, k), k * DT, 0)


def text(size: int, lost: int = 0):
    return Arrival(Item(TEXT, serialize_message(String(data="x" * size)), 0, 0, 0), None, lost)


def test_steps_interventions_versions_and_counts_go_into_the_labels(tmp_path):
    take = make(tmp_path)
    take.put([step(k, source=1, policy_version="v1") for k in range(10)])
    take.put([step(k, source=2) for k in range(10, 14)])
    take.put([step(k, source=1, policy_version="v2") for k in range(24, 30)])
    take.put([step(30, source=3), text(5, lost=2)])
    path = take.finish(take.labels.aborted("")).result(10)
    found = read_labels(path)
    assert (found.steps, found.intervention_steps, found.policy_versions) == (20, 4, ("v1", "v2"))
    executed, other = found.topics["/control/executed"], found.topics["/text"]
    assert (executed.received, executed.expected, executed.max_gap) == (21, 30, pytest.approx(0.22))
    assert (other.received, other.expected, other.dropped) == (1, -1, 2)
    assert take.counts[EXECUTED].gaps == 1


def test_steps_that_ran_on_after_the_label_are_in_the_bag_but_not_in_the_labels(tmp_path):
    take = make(tmp_path)
    take.put([step(k, source=1, policy_version="v1") for k in range(8)])
    take.put([step(k, source=2) for k in range(8, 11)])
    take.put([step(11, source=1, policy_version="v2")])
    path = take.finish(replace(take.labels, end="truncated", label_stamp=10 * DT)).result(10)
    found = read_labels(path)
    assert (found.steps, found.intervention_steps, found.policy_versions) == (10, 2, ("v1",))
    assert found.topics["/control/executed"].received == 12


def test_what_does_not_fit_the_queue_is_dropped_and_counted(tmp_path):
    take = make(tmp_path, queue_bytes=1000)
    take.put([text(600), text(600), text(100)])
    path = take.finish(take.labels).result(10)
    count = read_labels(path).topics["/text"]
    assert count.received + count.dropped == 3
    assert count.dropped >= 1
    with AnyReader([path]) as reader:
        assert sum(1 for _ in reader.messages()) == count.received


def test_abort_keeps_what_was_queued(tmp_path):
    take = make(tmp_path)
    take.put([step(k) for k in range(5)])
    found = read_labels(take.abort("shut down").result(10))
    assert (found.outcome, found.reason, found.steps) == (Outcome.ABORTED, "shut down", 5)


def test_bytes_that_are_no_step_end_the_take_with_an_error(tmp_path):
    take = make(tmp_path)
    take.put([Arrival(Item(EXECUTED, b"", 0, 0, 0), 0, 0)])
    with pytest.raises(Exception, match=r"(?i)deserial"):
        take.finish(take.labels).result(10)
    assert "bag writer stopped" in str(take.error)
    assert [p.name for p in tmp_path.iterdir()] == ["take.partial"]


def test_simulated_time_follows_the_joint_states_only():
    clock = TakeClock(simulated=True)
    wall = {"data": b"", "sent": 5, "received": 7, "sequence": 0, "lost": 0}
    assert clock.times(Received(stamp=3 * DT, **wall), leads=True) == (3 * DT, 3 * DT)
    assert clock.times(Received(stamp=10**18, **wall), leads=False) == (3 * DT, 10**18)
    assert clock.times(Received(stamp=None, **wall), leads=False) == (3 * DT, 3 * DT)
    assert clock.times(Received(stamp=DT, **wall), leads=True) == (DT, DT)


def test_on_a_robot_the_times_are_those_of_receipt_and_sending():
    message = Received(data=b"", stamp=DT, sent=5, received=7, sequence=0, lost=0)
    assert TakeClock(simulated=False).times(message, leads=True) == (7, 5)


@pytest.mark.parametrize("text", ["leader/joint_states", ":std_msgs/msg/String", "x:String"])
def test_a_topic_parameter_of_the_wrong_form_is_refused(text):
    with pytest.raises(AloeError, match="expected name:package/msg/Type"):
        recorded_topics(load_contract(CONTRACT_FILE), [text])


def test_a_message_type_that_is_not_installed_is_named():
    with pytest.raises(AloeError, match="no_msgs/msg/Thing"):
        message_class("no_msgs/msg/Thing")


class Clock:
    """A monotonic clock that a test sets, s."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silence_is_told_once_counted_while_it_lasts_and_told_again_after_the_next(tmp_path):
    clock = Clock()
    take = make(tmp_path, clock=clock)
    told = []
    for now, arrives in (
        (0.5, True),
        (0.59, False),
        (0.61, False),
        (0.9, False),
        (1.0, True),
        (1.05, False),
        (1.2, False),
    ):
        clock.now = now
        if arrives:
            take.put([step(round(now * 50))])
        told += [(now, text) for text in take.watch()]
    assert [now for now, _ in told] == [0.61, 1.2]
    assert told[0][1] == "/control/executed: nothing for 0.11 s, 50 Hz are promised."
    assert take.counts[EXECUTED].max_gap == pytest.approx(0.5)
    take.abort("").result(10)


def test_a_stream_that_never_comes_is_told_after_a_second_and_an_unpromised_one_never(tmp_path):
    clock = Clock()
    take = make(tmp_path, clock=clock)
    clock.now = 1.0
    assert take.watch() == []
    clock.now = 1.2
    assert [text.split(":")[0] for text in take.watch()] == ["/control/executed"]
    take.abort("").result(10)


@pytest.mark.parametrize(
    ("ticks", "lost", "quality"),
    [
        (range(60), 0, "passed"),
        (range(60), 1, "/control/executed: 1 messages lost"),
        ([k for k in range(60) if k % 10 < 8], 0, "/control/executed: 48 of 57 messages, below 90% of 50 Hz"),
        ([*range(20), *range(30, 120)], 0, "passed"),
        ([*range(20), *range(30, 120), *range(130, 220)], 0, "/control/executed: 2 gaps, the longest 0.22 s"),
    ],
)
def test_the_label_says_what_fails_the_quality_check(tmp_path, ticks, lost, quality):
    take = make(tmp_path, limits=Limits(max_gaps=2))
    take.put([step(k)._replace(lost=lost if k == 30 else 0) for k in ticks])
    assert read_labels(take.finish(take.labels).result(10)).quality == quality


def test_what_was_written_reaches_the_disk_although_nothing_follows(tmp_path):
    take = make(tmp_path, sync_period=0.1)
    file = tmp_path / "take.partial/take_0.mcap"
    head = file.stat().st_size
    take.put([step(k) for k in range(5)])
    deadline = time.monotonic() + 10
    while file.stat().st_size == head:
        assert time.monotonic() < deadline
    take.abort("").result(10)

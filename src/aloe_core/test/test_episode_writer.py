"""What lies on disk after a take, seen by independent readers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import mcap.reader
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosReliability

import bagmaker
from aloe_core.episode.bag import read_labels
from aloe_core.episode.data import Outcome
from aloe_core.episode.labels import TopicCount
from aloe_core.episode.names import bag_name, new_ulid
from aloe_core.episode.writer import EpisodeWriter
from aloe_core.errors import AloeError


def test_rosbags_reads_messages_types_qos_and_labels(tmp_path):
    bag = bagmaker.take(tmp_path, steps=12)
    with AnyReader([bag]) as reader:
        assert {c.topic for c in reader.connections} == {
            "/joint_states",
            "/control/executed",
            "/cameras/top/image_raw/compressed",
            "/cameras/wrist_left/image_raw/compressed",
            "/cameras/wrist_right/image_raw/compressed",
        }
        executed = [c for c in reader.connections if c.topic == "/control/executed"]
        assert executed[0].ext.offered_qos_profiles[0].reliability == QosReliability.RELIABLE
        assert executed[0].digest == bagmaker.message_type(bagmaker.EXECUTED).type_hash
        steps = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(executed)]
    assert [step.tick for step in steps] == list(range(12))
    assert steps[3].executed == pytest.approx([0.03] * 14)
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["version"] == 9
    assert metadata["message_count"] == 13 + 12 + 3 * 3
    assert metadata["custom_data"]["outcome"] == "success"
    assert metadata["duration"]["nanoseconds"] == 12 * bagmaker.DT


def test_mcap_file_is_profile_ros2_with_crcs_schemas_and_type_hashes(tmp_path):
    bag = bagmaker.take(tmp_path, steps=400)
    with (bag / "take_0.mcap").open("rb") as stream:
        reader = mcap.reader.make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert sum(1 for _ in reader.iter_messages()) == summary.statistics.message_count
    assert {s.encoding for s in summary.schemas.values()} == {"ros2msg"}
    assert all(b"MSG: std_msgs/Header" in s.data for s in summary.schemas.values())
    for channel in summary.channels.values():
        assert channel.message_encoding == "cdr"
        assert channel.metadata["topic_type_hash"].startswith("RIHS01_")
        assert yaml.safe_load(channel.metadata["offered_qos_profiles"])[0]["reliability"] == "reliable"
    sizes = [chunk.uncompressed_size for chunk in summary.chunk_indexes]
    assert len(sizes) > 1
    assert all(256 << 10 <= size <= 1 << 20 for size in sizes[:-1])


def test_labels_come_back_as_they_were_given(tmp_path):
    given = {
        "reason": 'success button: "done"',
        "label_stamp": 123_456_789_012,
        "policy_versions": ("v1", "v2"),
        "intervention_steps": 4,
        "operator": "Zoë",
        "topics": {"/joy": TopicCount(received=3, dropped=1, max_gap=0.25)},
    }
    bag = bagmaker.take(tmp_path, steps=2, **given)
    assert read_labels(bag) == bagmaker.labels(steps=2, **given)


def test_the_directory_has_its_final_name_only_once_everything_is_in_it(tmp_path):
    writing = bagmaker.Take(tmp_path)
    writing.run(3)
    assert [p.name for p in tmp_path.iterdir()] == ["take.partial"]
    assert not (tmp_path / "take.partial/metadata.yaml").exists()
    final = writing.writer.close(bagmaker.labels())
    assert [p.name for p in tmp_path.iterdir()] == ["take"]
    assert sorted(p.name for p in final.iterdir()) == ["metadata.yaml", "take_0.mcap"]


def test_abort_keeps_a_readable_bag_that_does_not_count(tmp_path):
    writing = bagmaker.Take(tmp_path)
    writing.run(3)
    bag = writing.writer.abort("disk nearly full", bagmaker.labels())
    found = read_labels(bag)
    assert (found.outcome, found.end, found.reason) == (Outcome.ABORTED, "aborted", "disk nearly full")


def test_data_reaches_the_disk_within_the_sync_period(tmp_path):
    now = [0.0]
    writing = bagmaker.Take(tmp_path, sync_period=2.0, clock=lambda: now[0])
    file = writing.writer.path / "take_0.mcap"
    writing.run(3)
    before = file.stat().st_size
    now[0] = 2.5
    writing.state(4)
    assert file.stat().st_size > before + 1000


@pytest.mark.parametrize(
    ("folder", "min_free", "words"),
    [("file/below", 0, "Not a directory"), ("new", 1 << 60, "MiB left on the disk")],
)
def test_a_folder_that_cannot_take_a_take_is_refused_with_one_sentence(tmp_path, folder, min_free, words):
    (tmp_path / "file").write_text("")
    with pytest.raises(AloeError, match=words):
        EpisodeWriter(tmp_path / folder, "take", bagmaker.labels(), min_free=min_free)
    assert not list(tmp_path.rglob("*.partial"))


def test_an_existing_bag_is_never_overwritten(tmp_path):
    bag = bagmaker.take(tmp_path)
    before = (bag / "take_0.mcap").read_bytes()
    with pytest.raises(AloeError, match="exists already"):
        bagmaker.Take(tmp_path)
    assert (bag / "take_0.mcap").read_bytes() == before


WRITE_UNTIL_REFUSED = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sys.path.insert(0, sys.argv[1])
import bagmaker
from aloe_core.errors import AloeError
writing = bagmaker.Take(Path(sys.argv[2]), sync_period=0.0)
errors = []
for action in (lambda: writing.run(500), lambda: writing.writer.close(bagmaker.labels())):
    try:
        action()
    except AloeError as error:
        errors.append(str(error))
print(len(errors), errors[0])
"""


def test_a_refused_write_is_never_success(tmp_path):
    """The kernel refuses to grow the file, as a full disk would."""
    here = str(Path(__file__).parent)
    run = [sys.executable, "-c", WRITE_UNTIL_REFUSED, here, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.startswith("2 ")
    assert "take.partial: episode not saved (" + os.strerror(errno.EFBIG) in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["take.partial"]


def test_ulids_sort_by_time_and_differ():
    first, second = new_ulid(1000), new_ulid(1001)
    assert len(first) == 26
    assert first < second
    assert new_ulid(1000) != first


def test_bag_names_carry_time_episode_and_task_and_nothing_a_file_system_minds():
    assert bag_name("01ABC", "pick/../ place", 0) == "19700101T000000Z_01ABC_pick-..-place"
    assert bag_name("", "..", 0) == "19700101T000000Z_none_none"

"""Recovery keeps what is whole, never more, whatever happened to the file."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

from aloe_core.episode import scan
from aloe_core.episode.bag import read_bag, read_labels
from aloe_core.episode.data import Outcome
from aloe_core.episode.reader import read_episode
from aloe_core.episode.recover import Status, recover_bag, recover_folder
from aloe_core.errors import AloeError
from bagmaker import EXECUTED, IMAGE, JOINTS, Take, contract, labels, take

TYPES = (EXECUTED, JOINTS, IMAGE)
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished bag of many small chunks."""
    writing = Take(tmp_path_factory.mktemp("whole"), chunk_size=8 << 10)
    writing.run(60)
    return writing.writer.close(labels(steps=60))


def contents(bag: Path) -> dict[str, list[bytes]]:
    return {topic: [bytes(m.data) for m in found] for topic, found in read_bag(bag, TYPES).messages.items()}


def copy(bag: Path, folder: Path, change) -> Path:
    """Copy `bag` into `folder` with the bytes of its MCAP file passed through `change`."""
    target = folder / bag.name
    shutil.rmtree(folder)
    shutil.copytree(bag, target)
    file = next(target.glob("*.mcap"))
    file.write_bytes(change(file.read_bytes()))
    return target


def in_order(part: list[bytes], of: list[bytes]) -> bool:
    rest = iter(of)
    return all(any(item == other for other in rest) for item in part)


def assert_sound(done, original: dict[str, list[bytes]]) -> None:
    """The repaired bag is valid for others, holds only original messages in their order, and does not count."""
    found = contents(done.path)
    for topic, messages in found.items():
        assert in_order(messages, original[topic]), topic
    assert done.messages == sum(map(len, found.values()))
    with AnyReader([done.path]) as reader:
        assert sum(1 for _ in reader.messages()) == done.messages
    if done.status is Status.RECOVERED:
        assert read_labels(done.path).outcome is Outcome.ABORTED


def flip(position: float, bit: int):
    def change(data: bytes) -> bytes:
        data = bytearray(data)
        data[int(len(data) * position)] ^= 1 << bit
        return bytes(data)

    return change


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_after_a_flipped_bit_at_most_one_chunk_is_lost(whole, tmp_path, position, bit):
    original = contents(whole)
    total = sum(map(len, original.values()))
    done = recover_bag(copy(whole, tmp_path, flip(position, bit)))
    assert done.status is Status.RECOVERED
    assert_sound(done, original)
    assert total - done.messages == done.lost_messages
    assert done.messages >= total - 40


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True))
def test_after_truncation_everything_before_the_cut_chunk_is_kept(whole, tmp_path, position):
    original = contents(whole)
    total = sum(map(len, original.values()))
    done = recover_bag(copy(whole, tmp_path, lambda data: data[: int(len(data) * position)]))
    if done.status is Status.FAILED:
        assert position < 0.2
        return
    assert done.status is Status.RECOVERED
    assert_sound(done, original)
    assert done.messages >= total * position - 60


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(begin=st.floats(0, 1), length=st.integers(1, 30_000))
def test_after_a_hole_in_the_middle_both_ends_are_kept(whole, tmp_path, begin, length):
    def zero(data: bytes) -> bytes:
        start = int(len(data) * begin)
        return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]

    done = recover_bag(copy(whole, tmp_path, zero))
    if done.status is not Status.FAILED:
        assert_sound(done, contents(whole))


def test_a_whole_bag_is_left_as_it_is(whole, tmp_path):
    bag = copy(whole, tmp_path, lambda data: data)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in bag.iterdir()}
    assert recover_bag(bag).status is Status.CLEAN
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in bag.iterdir()} == before


def test_a_finished_take_that_only_missed_its_rename_keeps_its_label(whole, tmp_path):
    bag = copy(whole, tmp_path, lambda data: data)
    torn = bag.rename(bag.with_name("take.partial"))
    (torn / "metadata.yaml").rename(torn / "metadata.yaml.tmp")
    done = recover_bag(torn)
    assert (done.status, done.path) == (Status.CLEAN, bag)
    assert read_labels(bag).outcome is Outcome.SUCCESS
    assert read_episode(bag, contract()).steps == 60


@pytest.mark.parametrize("text", ["", "\0\0\0", "rosbag2_bagfile_information: {version: 9}"])
def test_damaged_metadata_is_restored_from_the_file(whole, tmp_path, text):
    bag = copy(whole, tmp_path, lambda data: data)
    (bag / "metadata.yaml").write_text(text)
    assert recover_bag(bag).status is Status.CLEAN
    assert read_labels(bag) == labels(steps=60)


def test_the_damaged_original_goes_to_trash(whole, tmp_path):
    bag = copy(whole, tmp_path, flip(0.5, 0))
    data = next(bag.glob("*.mcap")).read_bytes()
    done = recover_bag(bag)
    assert done.path == bag
    assert (tmp_path / "trash/take/take_0.mcap").read_bytes() == data
    assert sorted(p.name for p in tmp_path.iterdir()) == ["take", "trash"]


def test_the_recovered_bag_knows_its_episode_and_recounts_its_steps(whole, tmp_path):
    done = recover_bag(copy(whole, tmp_path, lambda data: data[: len(data) * 2 // 3]))
    found = read_labels(done.path)
    assert (found.episode_id, found.task, found.seed) == (labels().episode_id, "sorting", 7)
    assert found.contract_hash == contract().hash
    assert 0 < found.steps < 60
    assert read_episode(done.path, contract()).end == "aborted"


def test_lost_channel_definitions_are_taken_from_the_summary(whole, tmp_path):
    """The first chunk holds every channel; without the repetition at the end of the file all would be lost."""

    def spoil_first_chunk(data: bytes) -> bytes:
        first = next(r for r in scan.walk(memoryview(data)) if isinstance(r, scan.Record) and r.opcode == scan.CHUNK)
        middle = first.start + len(first.body) // 2
        return data[:middle] + b"\xff" * 8 + data[middle + 8 :]

    done = recover_bag(copy(whole, tmp_path, spoil_first_chunk))
    assert done.status is Status.RECOVERED
    assert done.messages > 100
    assert 0 < done.lost_messages < 40


def test_nothing_whole_is_failure_and_changes_nothing(tmp_path):
    bag = take(tmp_path)
    file = bag / "take_0.mcap"
    file.write_bytes(file.read_bytes()[:300])
    done = recover_bag(bag)
    assert done.status is Status.FAILED
    assert sorted(p.name for p in tmp_path.iterdir()) == ["take"]


@pytest.mark.parametrize("make", [lambda d: None, lambda d: d.mkdir(), lambda d: d.write_text("")])
def test_what_is_no_bag_is_refused(tmp_path, make):
    make(tmp_path / "thing")
    with pytest.raises(AloeError, match="not a bag directory"):
        recover_bag(tmp_path / "thing")


WRITE_FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import bagmaker
writing = bagmaker.Take(Path(sys.argv[2]), chunk_size=16 << 10)
for k in range(10**9):
    writing.state(k)
    writing.step(k)
    if k == 300:
        print("running", flush=True)
"""


@pytest.fixture
def writer_process(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOREVER, str(HERE), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "running\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_take_that_is_being_written_is_left_alone(writer_process, tmp_path):
    with pytest.raises(AloeError, match="is being recorded right now"):
        recover_bag(tmp_path / "take.partial")
    assert writer_process.poll() is None


def test_after_sigkill_the_start_up_scan_recovers_all_but_the_open_chunk(writer_process, tmp_path):
    writer_process.send_signal(signal.SIGKILL)
    writer_process.wait()
    (done,) = recover_folder(tmp_path)
    assert done.status is Status.RECOVERED
    ep = read_episode(done.path, contract())
    assert (ep.outcome, ep.end) == (Outcome.ABORTED, "aborted")
    assert ep.steps > 250
    assert ep.breaks == ()
    assert recover_folder(tmp_path) == []

"""A flipped bit or a cut at every kind of place in a bag: always told, never a crash, at most one chunk lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

from aloe_core.episode import scan
from aloe_core.episode.bag import read_bag, read_labels
from aloe_core.episode.check import check_bag
from aloe_core.episode.data import Outcome
from aloe_core.episode.recover import Status, recover_bag
from aloe_core.errors import AloeError
from bagmaker import EXECUTED, IMAGE, JOINTS, Take, contract, labels

KINDS = {
    "header": scan.HEADER,
    "labels": scan.METADATA,
    "chunk": scan.CHUNK,
    "message index": scan.MESSAGE_INDEX,
    "data end": scan.DATA_END,
    "schema": scan.SCHEMA,
    "channel": scan.CHANNEL,
    "statistics": scan.STATISTICS,
    "chunk index": 8,
    "summary offset": 14,
    "footer": scan.FOOTER,
}
PARTS = ("opcode", "length", "begin", "middle", "end")
slow = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Whole:
    """A finished bag of many small chunks, and where everything in it is."""

    def __init__(self, folder: Path) -> None:
        writing = Take(folder, chunk_size=8 << 10)
        writing.run(40)
        self.path = writing.writer.close(labels(steps=40, label_stamp=41 * 20_000_000))
        self.data = next(self.path.glob("*.mcap")).read_bytes()
        self.records = [r for r in scan.walk(memoryview(self.data)) if isinstance(r, scan.Record)]
        chunks = [r for r in self.records if r.opcode == scan.CHUNK]
        self.chunk_messages = [
            sum(isinstance(item, scan.Message) for item in scan.chunk_records(scan.chunk_data(chunk)))
            for chunk in chunks
        ]
        self.chunk_ends = [chunk.start + 9 + len(chunk.body) for chunk in chunks]
        self.contents = contents(self.path)
        self.total = sum(self.chunk_messages)

    def copy(self, folder: Path, change: Callable[[bytearray], bytes | bytearray]) -> Path:
        """Copy the bag into `folder` (emptied) with the bytes of its file changed."""
        shutil.rmtree(folder)
        bag = folder / self.path.name
        shutil.copytree(self.path, bag)
        next(bag.glob("*.mcap")).write_bytes(change(bytearray(self.data)))
        return bag


def contents(bag: Path) -> dict[str, list[bytes]]:
    return {
        topic: [bytes(m.data) for m in found]
        for topic, found in read_bag(bag, (EXECUTED, JOINTS, IMAGE)).messages.items()
    }


def place(record: scan.Record, part: str) -> int:
    """Return the offset of a byte in that part of a record."""
    body = record.start + 9
    return {
        "opcode": record.start,
        "length": record.start + 1,
        "begin": body,
        "middle": body + len(record.body) // 2,
        "end": body + len(record.body) - 1,
    }[part]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"))


def test_every_kind_of_record_is_there_to_be_damaged(whole):
    assert set(KINDS.values()) <= {record.opcode for record in whole.records}
    assert len(whole.chunk_messages) >= 5


@pytest.mark.parametrize("kind", KINDS)
@slow
@given(data=st.data())
def test_a_flipped_bit_is_told_and_costs_at_most_the_chunk_it_is_in(whole, tmp_path, kind, data):
    records = [record for record in whole.records if record.opcode == KINDS[kind]]
    record = data.draw(st.sampled_from(range(len(records))).map(records.__getitem__), label="record")
    part = data.draw(st.sampled_from(PARTS), label="part")
    bit = data.draw(st.integers(0, 7), label="bit")

    def flip(content: bytearray) -> bytearray:
        content[place(record, part)] ^= 1 << bit
        return content

    bag = whole.copy(tmp_path, flip)
    report = check_bag(bag, contract())
    assert not report.ok and len(report.problems) == 1 and "\n" not in report.problems[0].text
    with pytest.raises(AloeError, match="damaged"):
        read_bag(bag, ())
    done = recover_bag(bag)
    assert done.status is Status.RECOVERED
    assert done.messages >= whole.total - max(whole.chunk_messages)
    assert done.lost_messages == whole.total - done.messages
    assert_only_originals(done.path, whole)


@pytest.mark.parametrize("part", ["opcode", "length"])
def test_what_the_last_chunk_held_is_counted_though_no_chunk_follows_it(whole, tmp_path, part):
    last = [record for record in whole.records if record.opcode == scan.CHUNK][-1]

    def flip(content: bytearray) -> bytearray:
        content[place(last, part)] ^= 1
        return content

    done = recover_bag(whole.copy(tmp_path, flip))
    assert (done.status, done.messages) == (Status.RECOVERED, whole.total - whole.chunk_messages[-1])
    assert done.lost_messages == whole.chunk_messages[-1]


@pytest.mark.parametrize("kind", KINDS)
@slow
@given(data=st.data())
def test_after_a_cut_every_chunk_before_it_is_kept(whole, tmp_path, kind, data):
    records = [record for record in whole.records if record.opcode == KINDS[kind]]
    record = data.draw(st.sampled_from(range(len(records))).map(records.__getitem__), label="record")
    cut = place(record, data.draw(st.sampled_from(PARTS), label="part"))
    bag = whole.copy(tmp_path, lambda content: content[:cut])
    kept = sum(count for count, end in zip(whole.chunk_messages, whole.chunk_ends, strict=True) if end <= cut)
    assert not check_bag(bag, contract()).ok
    done = recover_bag(bag)
    assert (done.status is Status.FAILED) == (kept == 0)
    assert done.messages == kept
    if kept:
        assert_only_originals(done.path, whole)
        assert recover_bag(done.path).status is Status.CLEAN


@slow
@given(garbage=st.binary(max_size=400))
def test_a_file_of_anything_is_refused_or_failed(whole, tmp_path, garbage):
    bag = whole.copy(tmp_path, lambda _: garbage)
    assert not check_bag(bag, contract()).ok
    assert recover_bag(bag).status is Status.FAILED
    assert next(bag.glob("*.mcap")).read_bytes() == garbage


@slow
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_metadata_is_told_or_harmless_and_restored_without_loss(whole, tmp_path, where, bit):
    bag = whole.copy(tmp_path, lambda content: content)
    file = bag / "metadata.yaml"
    text = bytearray(file.read_bytes())
    before = read_bag(bag, ()).information
    text[int(len(text) * where)] ^= 1 << bit
    file.write_bytes(text)
    try:
        assert read_bag(bag, ()).information == before
    except AloeError as error:
        assert "\n" not in str(error)
    done = recover_bag(bag)
    assert (done.status, done.messages) == (Status.CLEAN, whole.total)
    assert read_bag(bag, ()).information == before


def assert_only_originals(bag: Path, whole: Whole) -> None:
    """The repaired bag opens for others, holds original messages in their order, and does not count."""
    for topic, found in contents(bag).items():
        rest = iter(whole.contents[topic])
        assert all(any(message == original for original in rest) for message in found), topic
    with AnyReader([bag]) as reader:
        assert reader.message_count == sum(map(len, contents(bag).values()))
    assert read_labels(bag).outcome is Outcome.ABORTED

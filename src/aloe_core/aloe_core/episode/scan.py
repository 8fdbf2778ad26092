"""Walks an MCAP file front to back, whole or damaged (https://mcap.dev/spec).

One walk serves reading (damage is an error), checking (damage is reported) and recovery (damage is stepped over).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import zstandard

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX = 1, 2, 3, 4, 5, 6, 7
STATISTICS, METADATA, DATA_END = 11, 12, 15
_ZSTD_CHUNK = b"\x04\x00\x00\x00zstd"  # the compression field, 36 bytes into a chunk record's body
_BEFORE_COMPRESSION = 9 + 28
_DATA_END = struct.pack("<BQ", DATA_END, 4)  # opcode and length
_MAX_OPCODE = 15
_head = struct.Struct("<BQ")
_message = struct.Struct("<HIQQ")
_chunk = struct.Struct("<QQQI")


@dataclass(frozen=True)
class Record:
    """A whole record; `body` excludes opcode and length."""

    opcode: int
    start: int  # offset of the opcode in the file
    body: memoryview


@dataclass(frozen=True)
class Damage:
    """Bytes [start, end) of the file that are no record."""

    start: int
    end: int
    what: str


@dataclass(frozen=True)
class Schema:
    id: int
    name: str
    encoding: str
    text: str


@dataclass(frozen=True)
class Channel:
    id: int
    schema_id: int
    topic: str
    encoding: str
    metadata: dict[str, str]


class Message(NamedTuple):
    channel_id: int
    sequence: int
    log_time: int  # ns
    publish_time: int  # ns
    data: memoryview  # CDR


class BrokenRecord(ValueError):
    """A record whose content contradicts its length, checksum or encoding."""


def walk(file: memoryview) -> Iterator[Record | Damage]:
    """Yield the top-level records of `file` in order, and where there are none, the damage."""
    size = len(file)
    if bytes(file[:8]) != MAGIC:
        yield Damage(0, min(8, size), "no MCAP magic at the start")
    position = 8
    ended = False  # the record is there that carries the checksum of all before it
    while position < size:
        record = _record_at(file, position)
        if record is None:
            resume = _resume(file, position + 1)
            yield Damage(position, resume, "cut off" if resume == size else "not a record")
            position = resume
            continue
        ended |= record.opcode == DATA_END
        if record.opcode == FOOTER and not ended:
            yield Damage(record.start, record.start, "no end of the data before the footer")
        yield record
        position = record.start + 9 + len(record.body)
        if record.opcode == FOOTER:
            if bytes(file[position:]) != MAGIC:
                yield Damage(position, size, "no MCAP magic at the end")
            return
    yield Damage(size, size, "no footer: the file was not finished")


def chunk_data(record: Record) -> bytes | memoryview:
    """Return the uncompressed records of a chunk; BrokenRecord if its checksum says otherwise."""
    body = record.body
    try:
        _, _, size, crc = _chunk.unpack_from(body, 0)
        compression, position = _text(body, 28)
        (length,) = struct.unpack_from("<Q", body, position)
        packed = body[position + 8 : position + 8 + length]
        if compression not in ("", "zstd"):
            raise BrokenRecord(f"chunk compression {compression!r} is not supported")
        data = packed if compression == "" else zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except (struct.error, UnicodeDecodeError, zstandard.ZstdError, MemoryError) as error:
        raise BrokenRecord(f"chunk cannot be unpacked ({error})") from error
    if len(data) != size or (crc and zlib.crc32(data) != crc):
        raise BrokenRecord("chunk checksum (CRC) does not match")
    return data


def chunk_records(data: bytes | memoryview) -> Iterator[Schema | Channel | Message]:
    """Yield what an uncompressed chunk holds; BrokenRecord if it is not made of records."""
    view = memoryview(data)
    position, size = 0, len(view)
    while position < size:
        try:
            opcode, length = _head.unpack_from(view, position)
        except struct.error as error:
            raise BrokenRecord("chunk ends inside a record") from error
        body = view[position + 9 : position + 9 + length]
        if len(body) != length:
            raise BrokenRecord("chunk ends inside a record")
        position += 9 + length
        if opcode == MESSAGE:
            if length < 22:
                raise BrokenRecord("message record is too short")
            channel_id, sequence, log_time, publish_time = _message.unpack_from(body, 0)
            yield Message(channel_id, sequence, log_time, publish_time, body[22:])
        elif opcode == SCHEMA:
            yield schema(body)
        elif opcode == CHANNEL:
            yield channel(body)


def schema(body: memoryview) -> Schema:
    """Decode a schema record; BrokenRecord if it cannot be."""
    try:
        (number,) = struct.unpack_from("<H", body, 0)
        name, position = _text(body, 2)
        encoding, position = _text(body, position)
        text, _ = _text(body, position)
    except (struct.error, UnicodeDecodeError) as error:
        raise BrokenRecord("schema record is damaged") from error
    return Schema(number, name, encoding, text)


def channel(body: memoryview) -> Channel:
    """Decode a channel record; BrokenRecord if it cannot be."""
    try:
        number, schema_id = struct.unpack_from("<HH", body, 0)
        topic, position = _text(body, 4)
        encoding, position = _text(body, position)
        return Channel(number, schema_id, topic, encoding, _map(body, position))
    except (struct.error, UnicodeDecodeError) as error:
        raise BrokenRecord("channel record is damaged") from error


def metadata_record(body: memoryview) -> tuple[str, dict[str, str]]:
    """Return name and entries of a metadata record; BrokenRecord if it cannot be decoded."""
    try:
        name, position = _text(body, 0)
        return name, _map(body, position)
    except (struct.error, UnicodeDecodeError) as error:
        raise BrokenRecord("metadata record is damaged") from error


def indexed_messages(record: Record) -> int:
    """Return how many messages a message index counts; what a damaged chunk before it has lost."""
    return (len(record.body) - 6) // 16


def data_checksum(file: memoryview, data_end: Record) -> bool:
    """Return whether everything before the DataEnd record is as it was written (True where nothing was promised)."""
    crc = _u32(data_end.body, 0)
    return crc == 0 or zlib.crc32(file[: data_end.start]) == crc


def summary_checksum(file: memoryview, footer: Record) -> bool:
    """Return whether the summary section is as it was written (True where nothing was promised)."""
    start, _, crc = struct.unpack_from("<QQI", footer.body, 0)
    if crc == 0:
        return True
    begin = start or footer.start
    return begin <= footer.start and zlib.crc32(file[begin : footer.start + 9 + 16]) == crc


def _record_at(file: memoryview, position: int) -> Record | None:
    if position + 9 > len(file):
        return None
    opcode, length = _head.unpack_from(file, position)
    if not 1 <= opcode <= _MAX_OPCODE or position + 9 + length > len(file):
        return None
    record = Record(opcode, position, file[position + 9 : position + 9 + length])
    return record if _plausible(record) else None


def _plausible(record: Record) -> bool:
    """Return whether the fixed parts agree with the length: a flipped length must not swallow what follows."""
    body, length = record.body, len(record.body)
    if record.opcode == FOOTER:
        return length == 20
    if record.opcode == DATA_END:
        return length == 4
    if record.opcode == MESSAGE_INDEX:
        return length >= 6 and _u32(body, 2) == length - 6
    if record.opcode == CHUNK:
        if length < 40:
            return False
        packed = 40 + _u32(body, 28)
        return packed <= length == packed + _u64(body, packed - 8)
    return True


def _resume(file: memoryview, position: int) -> int:
    """Return the offset at or after `position` of the next whole zstd chunk, else of the data's end, else the end."""
    data = bytes(file[position:])
    for start in _found(data, _ZSTD_CHUNK):
        start += position - _BEFORE_COMPRESSION
        if start >= position and file[start] == CHUNK and _record_at(file, start) is not None:
            return start
    # After the last chunk: the statistics behind the data's end say how many messages there were.
    return next((position + start for start in _found(data, _DATA_END) if _ends(file, position + start)), len(file))


def _found(data: bytes, pattern: bytes) -> Iterator[int]:
    start = data.find(pattern)
    while start >= 0:
        yield start
        start = data.find(pattern, start + 1)


def _ends(file: memoryview, position: int) -> bool:
    """Return whether records without a gap lead from `position` to the end of the file."""
    while (record := _record_at(file, position)) is not None:
        position = record.start + 9 + len(record.body)
        if record.opcode == FOOTER:
            return bytes(file[position:]) == MAGIC
    return False


def _u32(body: memoryview, position: int) -> int:
    return int.from_bytes(body[position : position + 4], "little")


def _u64(body: memoryview, position: int) -> int:
    return int.from_bytes(body[position : position + 8], "little")


def _text(body: memoryview, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", body, position)
    end = position + 4 + length
    if end > len(body):
        raise struct.error("string runs past its record")
    return str(body[position + 4 : end], "utf-8"), end


def _map(body: memoryview, position: int) -> dict[str, str]:
    (length,) = struct.unpack_from("<I", body, position)
    position += 4
    end = position + length
    if end > len(body):
        raise struct.error("map runs past its record")
    entries: dict[str, str] = {}
    while position < end:
        key, position = _text(body, position)
        entries[key], position = _text(body, position)
    return entries

"""Makes a bag of what is whole in a torn or damaged one."""

from __future__ import annotations

import fcntl
import shutil
import struct
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from aloe_core.episode import metadata, scan
from aloe_core.episode.bag import read_labels, stored_information
from aloe_core.episode.data import Source
from aloe_core.episode.decode import Decoder
from aloe_core.episode.files import move_to_trash, publish, sync_directory
from aloe_core.episode.labels import EpisodeLabels, TopicCount, labels_from_custom_data, unsealed
from aloe_core.episode.message_types import MessageType
from aloe_core.episode.names import PARTIAL
from aloe_core.episode.writer import START_RECORD, EpisodeWriter
from aloe_core.errors import AloeError

_EXECUTED_TYPE = "aloe_msgs/msg/ExecutedStep"
_WORK = ".recovering_"


class Status(IntEnum):
    """How a recovery went; the values are exit codes."""

    CLEAN = 0  # nothing was lost: the bag was whole, or only its last rename or metadata.yaml was missing
    FAILED = 1  # nothing to keep; the directory is as it was
    RECOVERED = 3  # a repaired bag stands in its place, labelled ABORTED; the original is in trash/


@dataclass(frozen=True)
class Recovery:
    """What became of one bag."""

    status: Status
    path: Path  # the bag, or the untouched directory if it failed
    messages: int  # kept
    lost_messages: int  # known to be lost; more may be where lost_bytes > 0
    lost_bytes: int
    detail: str


@dataclass
class _Salvage:
    """What one walk over a damaged file finds."""

    schemas: dict[int, scan.Schema] = field(default_factory=dict)
    channels: dict[int, scan.Channel] = field(default_factory=dict)
    messages: list[scan.Message] = field(default_factory=list)
    start_labels: EpisodeLabels | None = None
    information: dict[str, Any] | None = None  # copy of metadata.yaml at the end of a finished file
    promised: int | None = None  # messages according to the file's statistics
    lost_messages: int = 0
    lost_bytes: int = 0
    damage: list[str] = field(default_factory=list)


def recover_bag(directory: str | Path) -> Recovery:
    """Repair one bag directory, `.partial` or finished; AloeError if it is no bag or is being written."""
    directory = Path(directory)
    file = _mcap_file(directory)
    with file.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AloeError(f"{directory}: is being recorded right now.") from error
        found = _salvage(file, memoryview(stream.read()))
        if not found.damage:
            return _finish(directory, file, found)
        if not found.messages:
            lost = "; ".join(found.damage)
            return Recovery(
                Status.FAILED, directory, 0, found.lost_messages, found.lost_bytes, f"nothing whole: {lost}"
            )
        return _rewrite(directory, found)


def recover_folder(folder: str | Path) -> list[Recovery]:
    """Recover every `.partial` of a bag folder that nobody is writing."""
    folder = Path(folder)
    done = []
    for directory in sorted(folder.glob("*" + PARTIAL)):
        try:
            done.append(recover_bag(directory))
        except AloeError as error:
            done.append(Recovery(Status.FAILED, directory, 0, 0, 0, str(error)))
    return done


def _mcap_file(directory: Path) -> Path:
    files = sorted(directory.glob("*.mcap")) if directory.is_dir() else []
    if len(files) != 1:
        raise AloeError(f"{directory}: not a bag directory (expected one MCAP file, found {len(files)}).")
    return files[0]


def _salvage(file: Path, data: memoryview) -> _Salvage:
    found = _Salvage()
    summary = _Salvage()
    in_summary = chunk_lost = False
    for record in scan.walk(data):
        if isinstance(record, scan.Damage):
            found.damage.append(f"{record.what} at byte {record.start}")
            found.lost_bytes += record.end - record.start
            continue
        try:
            if record.opcode == scan.CHUNK:
                chunk_lost = True
                _keep(found, list(scan.chunk_records(scan.chunk_data(record))))
                chunk_lost = False
            elif record.opcode == scan.MESSAGE_INDEX and chunk_lost:
                found.lost_messages += scan.indexed_messages(record)
            elif record.opcode == scan.METADATA:
                _keep_labels(found, file, record)
            elif record.opcode == scan.DATA_END:
                in_summary = True
                if not scan.data_checksum(data, record) and not found.damage:
                    found.damage.append("the checksum (CRC) of the data does not match")
            elif record.opcode == scan.FOOTER:
                if scan.summary_checksum(data, record):
                    found.schemas = summary.schemas | found.schemas
                    found.channels = summary.channels | found.channels
                    found.promised = summary.promised
                else:
                    found.damage.append("the checksum (CRC) of the index does not match")
            elif in_summary and record.opcode == scan.SCHEMA:
                _keep(summary, [scan.schema(record.body)])
            elif in_summary and record.opcode == scan.CHANNEL:
                _keep(summary, [scan.channel(record.body)])
            elif in_summary and record.opcode == scan.STATISTICS:
                (summary.promised,) = struct.unpack_from("<Q", record.body, 0)
        except scan.BrokenRecord as error:
            found.damage.append(f"{error} at byte {record.start}")
            found.lost_bytes += 9 + len(record.body)
    return _without_strays(found)


def _keep(found: _Salvage, items: list[scan.Schema | scan.Channel | scan.Message]) -> None:
    for item in items:
        if isinstance(item, scan.Message):
            found.messages.append(item)
        elif isinstance(item, scan.Schema):
            found.schemas[item.id] = item
        else:
            found.channels[item.id] = item


def _keep_labels(found: _Salvage, file: Path, record: scan.Record) -> None:
    name, entries = scan.metadata_record(record.body)
    if name == START_RECORD:
        known = unsealed(entries)
        found.start_labels = labels_from_custom_data(file, known) if known else None
    found.information = stored_information(record.body) or found.information


def _without_strays(found: _Salvage) -> _Salvage:
    """Drop messages whose channel or schema was in a lost chunk; settle the count of lost messages."""
    known = {number for number, channel in found.channels.items() if channel.schema_id in found.schemas}
    kept = [message for message in found.messages if message.channel_id in known]
    found.lost_messages += len(found.messages) - len(kept)
    found.messages = kept
    if found.promised is not None:
        found.lost_messages = found.promised - len(kept)
    return found


def _finish(directory: Path, file: Path, found: _Salvage) -> Recovery:
    """The file is whole: see that its metadata.yaml and its directory name are as well."""
    name = directory.name.removesuffix(PARTIAL)
    final = directory.parent / name
    count = len(found.messages)
    if found.information is None or _metadata_matches(directory, found.information):
        if directory == final:
            return Recovery(Status.CLEAN, final, count, 0, 0, "whole")
        if found.information is None:
            return Recovery(Status.FAILED, directory, 0, 0, 0, "written by another program, which did not finish it")
    if directory != final and final.exists():
        raise AloeError(f"{final}: exists already, {directory.name} cannot take its place.")
    assert found.information is not None
    publish(directory, final, found.information)
    return Recovery(Status.CLEAN, final, count, 0, 0, f"{metadata.FILE} rewritten from {file.name}, nothing lost")


def _metadata_matches(directory: Path, information: dict[str, Any]) -> bool:
    try:
        return metadata.read_metadata(directory) == information
    except AloeError:
        return False


def _rewrite(directory: Path, found: _Salvage) -> Recovery:
    name = directory.name.removesuffix(PARTIAL)
    final = directory.parent / name
    if directory != final and final.exists():
        raise AloeError(f"{final}: exists already, {directory.name} cannot take its place.")
    work = directory.parent / (_WORK + name)
    shutil.rmtree(work, ignore_errors=True)
    labels = _labels(directory, found)
    writer = EpisodeWriter(work, name, labels)
    for number, channel in found.channels.items():
        schema = found.schemas[channel.schema_id]
        kind = MessageType(schema.name, schema.text, channel.metadata.get("topic_type_hash", ""))
        qos = metadata.load_qos(channel.metadata.get("offered_qos_profiles", ""))
        found.channels[number] = replace(channel, id=writer.add_topic(channel.topic, kind, qos))
    for message in found.messages:
        channel_id = found.channels[message.channel_id].id
        writer.write(channel_id, bytes(message.data), message.log_time, message.publish_time, message.sequence)
    repaired = writer.abort(labels.reason, labels)
    trash = move_to_trash(directory)
    repaired.rename(final)
    sync_directory(final.parent)
    work.rmdir()
    detail = f"{labels.reason}; the original is in {trash.parent.name}/{trash.name}"
    return Recovery(Status.RECOVERED, final, len(found.messages), found.lost_messages, found.lost_bytes, detail)


def _labels(directory: Path, found: _Salvage) -> EpisodeLabels:
    """Return the labels of the repaired bag: what was known at the start, and what the messages say."""
    labels = found.start_labels
    if labels is None:
        try:
            labels = read_labels(directory)
        except AloeError:
            _, episode_id, task = (*directory.name.removesuffix(PARTIAL).split("_", 2), "", "")[:3]
            labels = EpisodeLabels(episode_id=episode_id, task=task)
    counts = Counter(message.channel_id for message in found.messages)
    steps = _executed(directory, found, labels.episode_id)
    damage = "; ".join(found.damage[:3])
    return replace(
        labels.aborted(f"recovered {len(found.messages)} messages ({damage})"),
        label_stamp=0,
        steps=len(steps),
        intervention_steps=sum(step.source == Source.HUMAN for step in steps),
        policy_versions=tuple(dict.fromkeys(step.policy_version for step in steps if step.policy_version)),
        topics={found.channels[number].topic: TopicCount(received=count) for number, count in counts.items()},
    )


def _executed(directory: Path, found: _Salvage, episode_id: str) -> list[Any]:
    types = {number: found.schemas[channel.schema_id].name for number, channel in found.channels.items()}
    decode = Decoder(directory, found.schemas.values())
    steps = [decode(m.data, _EXECUTED_TYPE) for m in found.messages if types[m.channel_id] == _EXECUTED_TYPE]
    return [step for step in steps if step.episode_id == episode_id]

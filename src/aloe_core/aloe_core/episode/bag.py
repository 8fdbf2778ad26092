"""Reads the MCAP file of a bag directory whole, or says where it is damaged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from aloe_core.episode import metadata, scan
from aloe_core.episode.labels import EpisodeLabels, labels_from_custom_data
from aloe_core.episode.names import PARTIAL
from aloe_core.errors import AloeError

ROSBAG2_RECORD = "rosbag2"  # MCAP metadata record that repeats metadata.yaml under the file's checksum


@dataclass
class Bag:
    """Contents of one bag; messages are kept in file order."""

    directory: Path
    file: Path
    information: dict[str, Any]
    labels: EpisodeLabels
    schemas: dict[int, scan.Schema] = field(default_factory=dict)
    channels: dict[int, scan.Channel] = field(default_factory=dict)
    messages: dict[str, list[scan.Message]] = field(default_factory=dict)  # of the wanted types, per topic
    counts: dict[str, int] = field(default_factory=dict)  # all messages, per topic

    def type_of(self, channel: scan.Channel) -> str:
        return self.schemas[channel.schema_id].name

    def topics_of(self, type_name: str) -> list[str]:
        """Return the topics of a message type."""
        return [channel.topic for channel in self.channels.values() if self.type_of(channel) == type_name]


def read_labels(directory: Path) -> EpisodeLabels:
    """Read only the labels of a bag (no integrity check); AloeError if it has none."""
    return _labels(directory, metadata.read_metadata(directory))


def read_bag(directory: Path, types: Collection[str] | None) -> Bag:
    """Read a bag and the messages of `types` (None: all), checking every checksum; AloeError says what is wrong."""
    information = metadata.read_metadata(directory)
    labels = _labels(directory, information)
    file = metadata.mcap_path(directory, information)
    bag = Bag(directory, file, information, labels)
    try:
        data = memoryview(file.read_bytes())
    except OSError as error:
        raise AloeError(f"{file}: cannot be read ({error.strerror}).") from error
    try:
        _fill(bag, data, types)
    except scan.BrokenRecord as error:
        raise damaged(file, str(error)) from error
    return bag


def damaged(file: Path, what: str) -> AloeError:
    """Return the error of a file that needs recovery."""
    return AloeError(f"{file}: damaged ({what}): `./aloe bag recover {file.parent}` keeps what is whole.")


def stored_information(body: memoryview) -> dict[str, Any] | None:
    """Return the copy of metadata.yaml in a metadata record, None if the record is another one or unreadable."""
    name, entries = scan.metadata_record(body)
    if name != ROSBAG2_RECORD:
        return None
    try:
        information = yaml.load(entries.get("serialized_metadata", ""), Loader=metadata.LOADER)
    except yaml.YAMLError:
        return None
    return information if isinstance(information, dict) else None


def _labels(directory: Path, information: dict[str, Any]) -> EpisodeLabels:
    if directory.name.endswith(PARTIAL):
        raise AloeError(f"{directory}: not finished: `./aloe bag recover {directory}` makes a bag of it.")
    custom = information.get("custom_data") or {}
    if not isinstance(custom, dict):
        raise AloeError(f"{directory / metadata.FILE}: custom_data is not a mapping: not a recorded episode.")
    return labels_from_custom_data(directory / metadata.FILE, custom)


def _fill(bag: Bag, data: memoryview, types: Collection[str] | None) -> None:
    wanted: dict[int, list[scan.Message]] = {}
    counts: dict[int, int] = {}
    for record in scan.walk(data):
        if isinstance(record, scan.Damage):
            raise damaged(bag.file, f"{record.what} at byte {record.start}")
        if record.opcode == scan.CHUNK:
            for item in scan.chunk_records(scan.chunk_data(record)):
                if isinstance(item, scan.Message):
                    counts[item.channel_id] = counts.get(item.channel_id, 0) + 1
                    if item.channel_id in wanted:
                        wanted[item.channel_id].append(item)
                elif isinstance(item, scan.Schema):
                    bag.schemas[item.id] = item
                else:
                    bag.channels[item.id] = item
                    if types is None or bag.type_of(item) in types:
                        wanted[item.id] = bag.messages.setdefault(item.topic, [])
        elif record.opcode == scan.METADATA:
            stored = stored_information(record.body)
            if stored is not None and stored != bag.information:
                raise damaged(bag.file, f"its labels contradict {metadata.FILE}")
        elif record.opcode == scan.DATA_END and not scan.data_checksum(data, record):
            raise damaged(bag.file, "the checksum (CRC) of its data does not match")
        elif record.opcode == scan.FOOTER and not scan.summary_checksum(data, record):
            raise damaged(bag.file, "the checksum (CRC) of its index does not match")
    bag.counts = {channel.topic: counts.get(number, 0) for number, channel in bag.channels.items()}

"""Writes one episode as a rosbag2 directory that a crash leaves recoverable."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from mcap.writer import CompressionType, Writer

from aloe_core.episode import metadata
from aloe_core.episode.bag import ROSBAG2_RECORD
from aloe_core.episode.files import check_folder, publish, sync_directory
from aloe_core.episode.labels import EpisodeLabels, sealed
from aloe_core.episode.message_types import MessageType
from aloe_core.episode.metadata import Qos
from aloe_core.episode.names import PARTIAL
from aloe_core.errors import AloeError

START_RECORD = "aloe"  # MCAP metadata record at the head of the file: the labels known at the start


T = TypeVar("T")


class _State(Enum):
    OPEN = "open"
    BROKEN = "broken"
    CLOSED = "closed"


@dataclass
class _Channel:
    topic: str
    type: MessageType
    qos: tuple[dict[str, object], ...]
    count: int = 0


class EpisodeWriter:
    """One take: `add_topic`, `write` …, then `close` or `abort`. For one thread at a time.

    It writes `<folder>/<name>.partial` and renames it to `<folder>/<name>` when everything is on disk. Chunks carry
    CRCs and are closed and fsynced every `sync_period` seconds at the latest, which bounds what a crash can cost.
    After a failed write the take is lost to `recover`: every later call raises, nothing is renamed.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        start_labels: EpisodeLabels,
        *,
        min_free: int = 64 << 20,
        chunk_size: int = 512 << 10,
        sync_period: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the directory; AloeError if the folder is not writable or has less than `min_free` bytes left."""
        self._start_labels = start_labels
        self._sync_period = sync_period
        self._clock = clock
        self._last_sync = clock()
        self._dirty = False  # something was written since
        self._state = _State.OPEN
        self._schemas: dict[str, int] = {}
        self._channels: dict[int, _Channel] = {}
        self._start: int | None = None
        self._end = 0
        self.message_bytes = 0  # written so far, uncompressed
        self._final = folder / name
        self._partial = folder / (name + PARTIAL)
        self._file = self._partial / f"{name}_0.mcap"
        check_folder(folder, min_free)
        if self._final.exists():
            raise AloeError(f"{self._final}: exists already, a bag is never overwritten.")
        try:
            self._partial.mkdir()
            self._stream = self._file.open("xb")
            fcntl.flock(self._stream, fcntl.LOCK_EX)  # `recover` leaves a take alone that is being written
            sync_directory(folder)
        except OSError as error:
            raise AloeError(f"{self._partial}: cannot be created ({error.strerror}).") from error
        self._mcap: Any = Writer(
            self._stream, chunk_size=chunk_size, compression=CompressionType.ZSTD, enable_data_crcs=True
        )
        self._guarded(self._begin)

    @property
    def path(self) -> Path:
        """Directory being written; after `close` the final one."""
        return self._final if self._state is _State.CLOSED else self._partial

    def add_topic(self, topic: str, message_type: MessageType, qos: Sequence[Qos | dict[str, object]]) -> int:
        """Register a topic and return its channel id. `qos`: what its publishers offer."""
        profiles = tuple(profile.to_yaml() if isinstance(profile, Qos) else profile for profile in qos)
        channel = _Channel(topic, message_type, profiles)
        number = self._guarded(lambda: self._register(channel))
        self._channels[number] = channel
        return number

    def write(self, channel: int, data: bytes, log_time: int, publish_time: int, sequence: int = 0) -> None:
        """Append a CDR message; times in ns of ROS time. AloeError if the disk refuses."""
        if self._state is not _State.OPEN:
            raise self._lost("it is not open")
        try:
            self._mcap.add_message(channel, log_time, data, publish_time, sequence)
        except OSError as error:
            raise self._break(error) from error
        self._channels[channel].count += 1
        self.message_bytes += len(data)
        self._start = log_time if self._start is None else min(self._start, log_time)
        self._end = max(self._end, log_time)
        self._dirty = True
        self.sync_if_due()

    def sync_if_due(self) -> None:
        """Sync what was written if the last time is a period ago; call it also while nothing comes."""
        if self._dirty and self._clock() - self._last_sync >= self._sync_period:
            self.sync()

    def sync(self) -> None:
        """Put everything written so far on disk."""
        self._guarded(self._sync)
        self._last_sync = self._clock()
        self._dirty = False

    def close(self, labels: EpisodeLabels) -> Path:
        """Finish the bag under these labels and return its directory; AloeError leaves the `.partial` behind."""
        self._guarded(lambda: self._finish(labels))
        self._state = _State.CLOSED
        return self._final

    def abort(self, reason: str, labels: EpisodeLabels | None = None) -> Path:
        """Finish the bag as ABORTED: what was recorded stays readable but does not count."""
        return self.close((labels or self._start_labels).aborted(reason))

    def _begin(self) -> None:
        self._mcap.start(profile="ros2")
        self._mcap.add_metadata(START_RECORD, sealed(self._start_labels.to_custom_data()))
        self._sync()

    def _register(self, channel: _Channel) -> int:
        kind = channel.type
        if kind.name not in self._schemas:
            self._schemas[kind.name] = self._mcap.register_schema(kind.name, "ros2msg", kind.schema.encode())
        details = {
            "offered_qos_profiles": metadata.dump_qos(channel.qos),
            "topic_type_hash": kind.type_hash,
        }
        return int(self._mcap.register_channel(channel.topic, "cdr", self._schemas[kind.name], details))

    def _sync(self) -> None:
        self._mcap.flush()
        os.fsync(self._stream.fileno())

    def _finish(self, labels: EpisodeLabels) -> None:
        topics = [
            metadata.Topic(c.topic, c.type.name, c.type.type_hash, c.qos, c.count) for c in self._channels.values()
        ]
        information = metadata.bag_information(
            self._file.name, topics, self._start or 0, self._end, labels.to_custom_data()
        )
        self._mcap.flush()
        self._mcap.add_metadata(ROSBAG2_RECORD, {"serialized_metadata": metadata.dump_information(information)})
        self._mcap.finish()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        publish(self._partial, self._final, information)

    def _guarded(self, action: Callable[[], T]) -> T:
        if self._state is not _State.OPEN:
            raise self._lost("it is not open")
        try:
            return action()
        except OSError as error:
            raise self._break(error) from error

    def _break(self, error: OSError) -> AloeError:
        self._state = _State.BROKEN
        with suppress(OSError):  # the first error is the one to report
            self._stream.close()
        return self._lost(error.strerror or str(error))

    def _lost(self, why: str) -> AloeError:
        return AloeError(
            f"{self._partial}: episode not saved ({why}); `./aloe bag recover` keeps what is whole once there is room."
        )

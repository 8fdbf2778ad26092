"""One take: a bounded queue in front of a writer thread, and the account of what went through it."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from aloe_core.episode.data import Source
from aloe_core.episode.labels import EpisodeLabels, TopicCount
from aloe_core.episode.message_types import MessageType
from aloe_core.episode.metadata import Qos
from aloe_core.episode.quality import PASSED, Limits, StreamAccount, gap_limit, shortcomings
from aloe_core.episode.writer import EpisodeWriter
from aloe_core.errors import AloeError
from aloe_ros import stamps

FIRST_S = 1.0  # within which the first message of a take must have come


class Step(Protocol):
    """The fields of ExecutedStep that the labels need."""

    header: Any  # std_msgs/Header
    episode_id: str
    source: int
    policy_version: str


class Driven(NamedTuple):
    """A step of the take's episode, and who drove it."""

    stamp: int  # ns
    human: bool
    policy_version: str


@dataclass(frozen=True)
class Stream:
    """A topic of a take."""

    name: str  # resolved
    type: MessageType
    offered: Sequence[Qos]
    rate_hz: float = 0.0  # promised; 0 = nothing promised


@dataclass
class Count:
    """The account of one topic; changed by the receiving thread only."""

    received: int = 0
    dropped: int = 0
    max_gap: float = 0.0  # s
    gaps: int = 0  # silences too long for the promised rate
    newest: int | None = None  # ns
    heard: float = 0.0  # when the last message came, s of a monotonic clock
    silent: bool = False  # a silence too long goes on


class Item(NamedTuple):
    """One message on its way to the writer."""

    stream: int
    data: bytes
    log_time: int
    publish_time: int
    sequence: int


class Arrival(NamedTuple):
    """A message that arrived during a take."""

    item: Item
    stamp: int | None  # ns, None if it has none
    lost: int  # messages of its publisher missing before it


class Take:
    """Receives from one thread, writes on its own; after a failed write `error` says why, nothing more is written."""

    def __init__(
        self,
        folder: Path,
        name: str,
        labels: EpisodeLabels,
        streams: Sequence[Stream],
        *,
        executed: str,
        decode_step: Callable[[bytes], Step],
        min_free: int,
        queue_bytes: int,
        sync_period: float = 2.0,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the bag; AloeError if the folder refuses.

        `executed`: the stream whose steps are counted. `sync_period`: s after which what came is on disk at the latest.
        """
        self.labels = labels
        self.streams = streams
        self.counts = [Count(heard=clock() + FIRST_S) for _ in streams]
        self._clock = clock
        self.error: AloeError | None = None
        self._executed = [stream.name for stream in streams].index(executed)
        self._decode_step = decode_step
        self._queue_bytes = queue_bytes
        self._limits = limits or Limits()
        self._sync_period = sync_period
        self._queue: deque[Item] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._finish: Callable[[], Path] | None = None
        self._done: Future[Path] = Future()
        self._steps: list[Driven] = []
        self._first_step: int | None = None
        self._writer = EpisodeWriter(folder, name, labels, min_free=min_free, sync_period=sync_period)
        self._channels = [self._writer.add_topic(s.name, s.type, s.offered) for s in streams]
        self._thread = threading.Thread(target=self._run, name="bag writer", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        return self._writer.path

    @property
    def message_bytes(self) -> int:
        return self._writer.message_bytes

    def newest(self, stream: int) -> int | None:
        """Return the newest stamp (ns) received on a stream in this take."""
        return self.counts[stream].newest

    def open_with(self, items: Sequence[Item]) -> None:
        """Queue messages from before the take; they are no part of its rates and gaps."""
        for item in items:
            self.counts[item.stream].received += 1
        self._enqueue(items)

    def put(self, arrivals: Sequence[Arrival]) -> None:
        """Queue messages; never blocks: what does not fit the queue is dropped and counted."""
        accepted = []
        now = self._clock()
        room = self._queue_bytes - self._queued
        for item, stamp, lost in arrivals:
            count = self.counts[item.stream]
            count.dropped += lost
            room -= len(item.data)
            if room < 0:
                count.dropped += 1
                continue
            self._account(item.stream, item.log_time if stamp is None else stamp)
            count.heard = now
            accepted.append(item)
        self._enqueue(accepted)

    def watch(self) -> list[str]:
        """Return a sentence for every stream with a promised rate that has just fallen silent; for live streams."""
        now = self._clock()
        fallen = []
        for stream, count in zip(self.streams, self.counts, strict=True):
            silence = now - count.heard
            if not stream.rate_hz or silence <= gap_limit(stream.rate_hz):
                continue
            count.max_gap = max(count.max_gap, silence)
            if not count.silent:
                count.silent = True
                fallen.append(f"{stream.name}: nothing for {silence:.2f} s, {stream.rate_hz:g} Hz are promised.")
        return fallen

    def expected(self) -> list[int]:
        """Return how many messages the promised rates come to since the first step, per stream; -1 for no promise."""
        last = self.counts[self._executed].newest
        seconds = (last - self._first_step) * 1e-9 if last is not None and self._first_step is not None else 0.0
        return [int(seconds * stream.rate_hz) if stream.rate_hz and seconds else -1 for stream in self.streams]

    def quality(self) -> str:
        """Return what fails the take so far, empty if nothing does."""
        found = []
        for number, (stream, count) in enumerate(zip(self.streams, self.counts, strict=True)):
            if stream.rate_hz:
                lost = count.dropped if number == self._executed else 0
                expected = self.expected()[number]
                gaps = count.gaps + self._open_gap(number)
                account = StreamAccount(
                    stream.name, stream.rate_hz, count.received, expected, gaps, count.max_gap, lost
                )
                found += shortcomings(account, self._limits)
        return "; ".join(found)

    def finish(self, labels: EpisodeLabels) -> Future[Path]:
        """Write what is queued, close the bag under these labels (counts are added) and give its directory."""
        return self._end(lambda: self._writer.close(self._counted(labels)))

    def abort(self, reason: str) -> Future[Path]:
        """As `finish`, labelled ABORTED."""
        return self._end(lambda: self._writer.close(self._counted(self.labels).aborted(reason)))

    def _end(self, action: Callable[[], Path]) -> Future[Path]:
        with self._changed:
            self._finish = self._finish or action
            self._changed.notify()
        return self._done

    def _enqueue(self, items: Sequence[Item]) -> None:
        with self._changed:
            self._queue.extend(items)
            self._queued += sum(len(item.data) for item in items)
            self._changed.notify()

    def _account(self, stream: int, stamp: int) -> None:
        count = self.counts[stream]
        if count.newest is not None:
            gap = (stamp - count.newest) * 1e-9
            count.max_gap = max(count.max_gap, gap)
            rate = self.streams[stream].rate_hz
            count.gaps += rate > 0 and gap > gap_limit(rate)
        count.received += 1
        count.silent = False
        count.newest = stamp if count.newest is None else max(stamp, count.newest)
        if stream == self._executed and self._first_step is None:
            self._first_step = stamp

    def _open_gap(self, stream: int) -> bool:
        """Return whether a stream has not come back before the last step."""
        last, newest = self.counts[self._executed].newest, self.counts[stream].newest
        rate = self.streams[stream].rate_hz
        return last is not None and newest is not None and (last - newest) * 1e-9 > gap_limit(rate)

    def _counted(self, labels: EpisodeLabels) -> EpisodeLabels:
        topics = {
            stream.name: TopicCount(
                received=count.received,
                expected=expected,
                dropped=count.dropped,
                max_gap=round(count.max_gap, 6),
            )
            for stream, count, expected in zip(self.streams, self.counts, self.expected(), strict=True)
        }
        # The arbiter drives on until it hears that the episode has ended; what it drove then is no part of it.
        label = labels.label_stamp
        steps = [step for step in self._steps if not label or step.stamp < label]
        return replace(
            labels,
            steps=len(steps),
            intervention_steps=sum(step.human for step in steps),
            policy_versions=tuple(dict.fromkeys(step.policy_version for step in steps if step.policy_version)),
            quality=self.quality() or PASSED,
            topics=topics,
        )

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._queue or self._finish is not None, self._sync_period)
                    batch, finish = list(self._queue), self._finish
                    self._queue.clear()
                    self._queued = 0
                for item in batch:
                    self._write(item)
                self._writer.sync_if_due()
                if finish is not None and not batch:
                    self._done.set_result(finish())
                    return
        except AloeError as error:
            self.error = error
            self._done.set_exception(error)
        except Exception as error:  # noqa: BLE001  a thread has no caller: `finish` raises it again
            self.error = AloeError(f"{self.path}: the bag writer stopped ({error!r}).")
            self._done.set_exception(error)

    def _write(self, item: Item) -> None:
        self._writer.write(self._channels[item.stream], item.data, item.log_time, item.publish_time, item.sequence)
        if item.stream != self._executed:
            return
        step = self._decode_step(item.data)
        if step.episode_id == self.labels.episode_id and step.source != Source.RESET:
            stamp = stamps.to_ns(step.header.stamp)
            version = sys.intern(step.policy_version)  # one string for all steps, however long the take
            self._steps.append(Driven(stamp, step.source == Source.HUMAN, version))

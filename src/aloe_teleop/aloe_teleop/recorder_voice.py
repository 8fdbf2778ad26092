"""What the recorder says about itself: recorder/status, episode/event and diagnostics."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from aloe_msgs.msg import EpisodeEvent, RecorderStatus
from rclpy.node import Node

from aloe_core.episode.labels import EpisodeLabels
from aloe_ros import qos
from aloe_ros.diagnostics import ERROR, OK, WARN, Diagnostics, Report
from aloe_teleop.recorder_take import Take


class Voice:
    """Publishers of the recorder and the state they tell."""

    def __init__(self, node: Node, reserve: int, folder: Path) -> None:
        """`reserve`: bytes of disk that stay free; `folder`: where the first take will go."""
        self.detail = ""
        self.quality = ""
        self.mixed: list[str] = []  # topics whose publishers offer different QoS
        self._folder = folder
        self._rate = 0.0  # bytes a second of this take or the last one
        self._node = node
        self._reserve = reserve
        self._state = RecorderStatus.IDLE
        self._take: Take | None = None
        self._since = 0.0
        self._status = node.create_publisher(RecorderStatus, "recorder/status", qos.LATCHED)
        self._events = node.create_publisher(EpisodeEvent, "episode/event", qos.COMMAND)
        self._diagnostics = Diagnostics(node, self._report)

    def enter(self, state: int, take: Take | None = None, detail: str = "") -> None:
        """Tell a new state, about `take`, which stays the one meant until the next."""
        if take is not None and take is not self._take:
            self._since, self._folder = time.monotonic(), take.path.parent
        self._state, self._take, self.detail = state, take, detail
        self.status()

    def event(self, event: int, labels: EpisodeLabels, detail: str) -> None:
        """Tell what became of an episode."""
        msg = EpisodeEvent(
            episode_id=labels.episode_id,
            task=labels.task,
            event=event,
            outcome=int(labels.outcome),
            end=labels.end,
            detail=detail,
        )
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._events.publish(msg)

    def status(self) -> None:
        """Publish recorder/status."""
        take = self._take
        msg = RecorderStatus(state=self._state, detail=self.detail, quality=self.quality)
        msg.header.stamp = self._node.get_clock().now().to_msg()
        if take is not None:
            msg.episode_id = take.labels.episode_id
            msg.path = str(take.path)
            msg.topics = [stream.name for stream in take.streams]
            msg.received = [count.received for count in take.counts]
            msg.dropped = [count.dropped for count in take.counts]
            msg.expected = take.expected()
            msg.max_gap = [count.max_gap for count in take.counts]
            msg.gaps = [count.gaps for count in take.counts]
            msg.quality = take.quality()
        msg.disk_minutes_left = self.minutes_left()
        self._status.publish(msg)

    def minutes_left(self) -> float:
        """Return how long the disk lasts at the rate of this take or the last one; -1 before the first."""
        if self._take is not None and (seconds := time.monotonic() - self._since) >= 1.0:
            self._rate = self._take.message_bytes / seconds
        if self._rate <= 0 or not self._folder.is_dir():
            return -1.0
        left = shutil.disk_usage(self._folder).free - self._reserve
        return max(0.0, left / self._rate / 60)

    def close(self) -> None:
        self._diagnostics.close()
        for publisher in (self._status, self._events):
            self._node.destroy_publisher(publisher)

    def _report(self) -> Report:
        take = self._take
        values: dict[str, object] = {"minutes_left": round(self.minutes_left(), 1)}
        if self.mixed:
            values["mixed_qos"] = ", ".join(self.mixed)
        if self._state == RecorderStatus.ERROR:
            return ERROR, self.detail, values
        if take is None:
            worry = self.quality or self.detail or self._mixed()
            return (WARN, worry, values) if worry else (OK, "idle", values)
        dropped = sum(count.dropped for count in take.counts)
        gaps = sum(count.gaps for count in take.counts)
        received = sum(count.received for count in take.counts)
        values |= {"episode_id": take.labels.episode_id, "received": received, "dropped": dropped, "gaps": gaps}
        for stream, count, expected in zip(take.streams, take.counts, take.expected(), strict=True):
            if stream.rate_hz:
                values[stream.name] = (
                    f"received {count.received}, expected {expected}, dropped {count.dropped}, "
                    f"longest gap {count.max_gap:.3f} s"
                )
        silent = [s.name for s, count in zip(take.streams, take.counts, strict=True) if count.silent]
        if quality := take.quality():
            return WARN, f"this take fails its quality check: {quality}", values
        if silent:
            return WARN, f"silent: {', '.join(silent)}", values
        if dropped or gaps:
            return WARN, f"{dropped} messages lost, {gaps} gaps in this take", values
        return (WARN, self._mixed(), values) if self.mixed else (OK, "recording", values)

    def _mixed(self) -> str:
        return f"publishers offer different QoS on {', '.join(self.mixed)}" if self.mixed else ""

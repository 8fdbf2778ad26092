"""What the recorder says about itself: recorder/status, episode/event and diagnostics."""

from __future__ import annotations

import shutil
import time

from aloe_msgs.msg import EpisodeEvent, RecorderStatus
from rclpy.node import Node

from aloe_core.episode.labels import EpisodeLabels
from aloe_ros import qos
from aloe_ros.diagnostics import ERROR, OK, WARN, Diagnostics, Report
from aloe_teleop.recorder_take import Take


class Voice:
    """Publishers of the recorder and the state they tell."""

    def __init__(self, node: Node, reserve: int) -> None:
        """`reserve`: bytes of disk that stay free."""
        self.detail = ""
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
            self._since = time.monotonic()
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
        msg = RecorderStatus(state=self._state, detail=self.detail, disk_minutes_left=-1.0)
        msg.header.stamp = self._node.get_clock().now().to_msg()
        if take is not None:
            msg.episode_id = take.labels.episode_id
            msg.path = str(take.path)
            msg.topics = [stream.name for stream in take.streams]
            msg.received = [count.received for count in take.counts]
            msg.dropped = [count.dropped for count in take.counts]
            msg.max_gap = [count.max_gap for count in take.counts]
            rate = take.message_bytes / max(1.0, time.monotonic() - self._since)
            if rate > 0:
                left = shutil.disk_usage(take.path.parent).free - self._reserve
                msg.disk_minutes_left = max(0.0, left / rate / 60)
        self._status.publish(msg)

    def close(self) -> None:
        self._diagnostics.close()
        for publisher in (self._status, self._events):
            self._node.destroy_publisher(publisher)

    def _report(self) -> Report:
        take = self._take
        if self._state == RecorderStatus.ERROR:
            return ERROR, self.detail, {}
        if take is None:
            return (WARN, self.detail, {}) if self.detail else (OK, "idle", {})
        received = sum(count.received for count in take.counts)
        dropped = sum(count.dropped for count in take.counts)
        gaps = sum(count.gaps for count in take.counts)
        values = {"episode_id": take.labels.episode_id, "received": received, "dropped": dropped, "gaps": gaps}
        if dropped or gaps:
            return WARN, f"{dropped} messages lost, {gaps} gaps in this take", values
        return OK, "recording", values

"""Raw subscriptions that are emptied in turns instead of waking the executor for every message.

rclpy spends a quarter of a millisecond of CPU per callback; taking what has arrived fifty times a second costs a tenth
of that. DDS receives on its own threads meanwhile, so nothing waits for Python.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from aloe_core.episode.message_types import MessageType, find_message_type, ros_prefixes
from aloe_core.episode.metadata import Qos
from aloe_teleop.recorder_topics import Recorded, message_class

_DEPTH = 500  # messages DDS keeps between two turns
_stamp = {0: struct.Struct(">iI"), 1: struct.Struct("<iI")}


class TakenByHand(CallbackGroup):
    """Keeps its subscriptions out of every executor's wait set."""

    def can_execute(self, entity) -> bool:
        return False

    def beginning_execution(self, entity) -> bool:
        return False

    def ending_execution(self, entity) -> None:
        pass


@dataclass(frozen=True)
class Received:
    """A message as it came off the wire."""

    data: bytes  # CDR
    stamp: int | None  # ns, header stamp; None for types without a header
    sent: int  # ns of wall time
    received: int  # ns of wall time
    sequence: int  # of its publisher; 0 = unknown
    lost: int  # messages missing between this one and the one before it from the same publisher


class Tap:
    """One recorded topic."""

    def __init__(self, node: Node, topic: Recorded, *, lockstep: bool) -> None:
        """Subscribe; AloeError if the message type is not installed."""
        self.topic = topic
        self.name = node.resolve_topic_name(topic.name)
        self.type: MessageType = find_message_type(topic.type, ros_prefixes())
        self.mixed_offers = False
        self._node = node
        self._class = message_class(topic.type)
        self._has_header = self.type.has_header
        self._lockstep = lockstep
        self._group = TakenByHand()
        self._sequence = 0
        self._publishers = 0
        self._qos = self._wanted_qos()
        self._subscription = self._subscribe()

    def take(self) -> Iterator[Received]:
        """Yield what has arrived since the last turn, oldest first."""
        handle = self._subscription.handle
        while True:
            with handle:
                taken = handle.take_message(self._class, True)
            if taken is None:
                return
            data, info = taken
            sequence = info["publication_sequence_number"] or 0
            lost = sequence - self._sequence - 1 if self._sequence and self._publishers == 1 else 0
            self._sequence = sequence
            stamp = self._header_stamp(data) if self._has_header else None
            yield Received(data, stamp, info["source_timestamp"], info["received_timestamp"], sequence, max(0, lost))

    def review(self, *, recording: bool) -> bool:
        """Follow what the publishers offer now; return whether the subscription had to be made anew.

        While `recording` only a subscription that cannot hear a publisher is given up.
        """
        wanted = self._wanted_qos()
        deaf = _asks_more(self._qos, wanted)
        if wanted == self._qos or (recording and not deaf):
            return False
        self._qos = wanted
        self.renew()
        return True

    def renew(self) -> None:
        """Subscribe anew, to be told again what is latched."""
        self._node.destroy_subscription(self._subscription)
        self._sequence = 0
        self._subscription = self._subscribe()

    def offered(self) -> list[Qos]:
        """Return the profiles to note in the bag: those of the publishers, or the agreed one while there are none."""
        depth = 1 if self.topic.latched else 10
        offers = [Qos(depth=info.qos_profile.depth or depth, **_policies(info.qos_profile)) for info in self._infos()]
        return offers or [Qos(depth=depth, **_policies(self._qos))]

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)

    @property
    def hears_latched(self) -> bool:
        """Whether what was published before the subscription reaches it."""
        return self._qos.durability == DurabilityPolicy.TRANSIENT_LOCAL

    @property
    def subscription(self):
        return self._subscription

    def _infos(self):
        return self._node.get_publishers_info_by_topic(self.name)

    def _wanted_qos(self) -> QoSProfile:
        """Ask for reliable or transient local only where every publisher offers it."""
        infos = self._infos()
        self._publishers = len(infos)
        reliable = [info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in infos]
        latched = [info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for info in infos]
        self.mixed_offers = len(set(reliable)) > 1 or len(set(latched)) > 1
        ask_reliable = all(reliable) if infos else self._lockstep or not self.topic.sensor
        ask_latched = all(latched) if infos else self.topic.latched or (self._lockstep and self.topic.replayed)
        return QoSProfile(
            depth=_DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if ask_reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if ask_latched else DurabilityPolicy.VOLATILE,
        )

    def _subscribe(self):
        return self._node.create_subscription(
            self._class, self.topic.name, _never, self._qos, callback_group=self._group, raw=True
        )

    def _header_stamp(self, data: bytes) -> int:
        seconds, nanoseconds = _stamp[data[1] & 1].unpack_from(data, 4)
        return seconds * 1_000_000_000 + nanoseconds


class TapWait:
    """Waits until one of the taps has something to take."""

    def __init__(self, node: Node, taps: list[Tap]) -> None:
        self._context = node.context
        self._taps = taps

    def __call__(self, timeout: float) -> None:
        """Return when something has arrived, or after `timeout` s."""
        context = self._context.handle
        with context:
            waiting = rclpy_implementation.WaitSet(len(self._taps), 0, 0, 0, 0, 0, context)
            waiting.clear_entities()
            for tap in self._taps:
                waiting.add_subscription(tap.subscription.handle)
            waiting.wait(int(timeout * 1e9))


def _asks_more(qos: QoSProfile, than: QoSProfile) -> bool:
    reliable = qos.reliability == ReliabilityPolicy.RELIABLE != than.reliability
    latched = qos.durability == DurabilityPolicy.TRANSIENT_LOCAL != than.durability
    return reliable or latched


def _policies(profile: QoSProfile) -> dict[str, str]:
    return {
        "reliability": "reliable" if profile.reliability == ReliabilityPolicy.RELIABLE else "best_effort",
        "durability": "transient_local" if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL else "volatile",
    }


def _never(_message) -> None:
    raise AssertionError("taken by hand, never called")

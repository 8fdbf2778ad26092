"""What the recorder hears, whether or not a take is running."""

from __future__ import annotations

import time

from aloe_msgs.msg import ControlMode, Task
from rclpy.node import Node
from rclpy.serialization import deserialize_message

from aloe_core.contract import RobotContract
from aloe_teleop.recorder_clock import TakeClock
from aloe_teleop.recorder_tail import Tail
from aloe_teleop.recorder_take import Arrival, Item, Stream, Take
from aloe_teleop.recorder_tap import Received, Tap, TapWait
from aloe_teleop.recorder_topics import EXECUTED, MODE, TASK, recorded_topics

_DRIVING = (ControlMode.POLICY, ControlMode.HUMAN)


class Inbox:
    """All taps of the recorder. Remembers what a take that begins later must open with."""

    def __init__(self, node: Node, contract: RobotContract, extra: list[str], *, lockstep: bool) -> None:
        """Subscribe to every recorded topic; AloeError for one that cannot be."""
        self.task = Task()
        self.mixed: list[str] = []  # topics whose publishers offer different QoS
        self._logger = node.get_logger()
        self._contract = contract
        self._taps = [Tap(node, topic, lockstep=lockstep) for topic in recorded_topics(contract, extra)]
        self._index = {tap.topic.name: number for number, tap in enumerate(self._taps)}
        self._joints = self._index[contract.control.joint_states_topic]
        simulated = node.get_parameter("use_sim_time").value
        self.simulated: bool = simulated
        self._clock = TakeClock(simulated=simulated)
        self._newest: dict[int, Received] = {}  # of latched topics and sensors
        self._mode: int | None = None
        self._last_arrival = time.monotonic()
        self.wait = TapWait(node, self._taps)

    @property
    def executed(self) -> str:
        """Resolved name of control/executed."""
        return self._taps[self._index[EXECUTED]].name

    def streams(self) -> list[Stream]:
        """Return the topics as a take that begins now sees them."""
        return [Stream(tap.name, tap.type, tap.offered(), tap.topic.rate_hz) for tap in self._taps]

    def receive(self) -> list[Arrival]:
        """Return everything that has arrived since the last call."""
        arrivals = []
        for number, tap in enumerate(self._taps):
            for message in tap.take():
                self._remember(number, tap, message)
                log, publish = self._clock.times(message, leads=number == self._joints)
                item = Item(number, message.data, log, publish, message.sequence)
                arrivals.append(Arrival(item, message.stamp, message.lost))
        if arrivals:
            self._last_arrival = time.monotonic()
        return arrivals

    def before(self) -> list[Item]:
        """Return what a take opens with: latched messages, and the state and frames that the episode starts from."""
        now = self._clock.start()
        joints = self._newest.get(self._joints)
        items = []
        for number, message in self._newest.items():
            topic = self._taps[number].topic
            if topic.sensor and abs(message.stamp - joints.stamp if joints else now) > 2e9 / topic.rate_hz:
                continue
            publish = now if topic.latched else self._clock.times(message, leads=False)[1]
            items.append(Item(number, message.data, now, publish, message.sequence))
        return items

    def renew(self) -> None:
        """Subscribe anew to further topics that are offered latched: what was said once reaches every take."""
        for tap in self._taps:
            if tap.hears_latched and not (tap.topic.latched or tap.topic.replayed):
                tap.renew()

    def tail(self, take: Take) -> Tail:
        """Return what has come of the end of a take."""

        def newest(name: str) -> int | None:
            return take.counts[self._index[name]].newest

        return Tail(
            executed=newest(EXECUTED),
            joints=newest(self._contract.control.joint_states_topic),
            frames=[
                (newest(f"{camera.topic}/image_raw/compressed"), round(1e9 / camera.rate_hz))
                for camera in self._contract.cameras
            ],
            driving=self._mode is None or self._mode in _DRIVING,
            quiet=time.monotonic() - self._last_arrival,
        )

    def review(self, *, recording: bool) -> None:
        """Follow what the publishers offer now; `recording`: give up no subscription that hears them."""
        for tap in self._taps:
            if tap.review(recording=recording):
                self._logger.info(f"{tap.name}: subscribed anew, as its publishers offer it.")
        mixed = [tap.name for tap in self._taps if tap.mixed_offers]
        for name in mixed:
            if name not in self.mixed:
                self._logger.warning(f"{name}: publishers offer different QoS, the weakest of it is asked for.")
        self.mixed = mixed

    def close(self) -> None:
        for tap in self._taps:
            tap.close()

    def _remember(self, number: int, tap: Tap, message: Received) -> None:
        if tap.topic.latched or tap.topic.sensor:
            self._newest[number] = message
        if tap.topic.name == MODE:
            self._mode = deserialize_message(message.data, ControlMode).mode
        elif tap.topic.name == TASK:
            self.task = deserialize_message(message.data, Task)

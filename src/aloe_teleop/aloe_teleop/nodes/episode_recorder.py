"""One bag per episode: everything on the graph, raw, crash-safe, with labels."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from aloe_msgs.msg import ControlMode, EpisodeEvent, ExecutedStep, RecorderStatus, Task
from aloe_msgs.srv import StartRecording, StopRecording
from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message

from aloe_core.episode.data import Outcome
from aloe_core.episode.files import move_to_trash
from aloe_core.episode.labels import ENDS, EpisodeLabels
from aloe_core.episode.names import bag_name, new_ulid
from aloe_core.episode.recover import Status, recover_folder
from aloe_core.errors import AloeError, bad_value
from aloe_ros import qos, stamps
from aloe_ros.diagnostics import ERROR, OK, WARN, Diagnostics, Report
from aloe_ros.node import AloeLifecycleNode, run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep
from aloe_teleop.recorder_clock import TakeClock
from aloe_teleop.recorder_tail import Tail
from aloe_teleop.recorder_take import Item, Stream, Take
from aloe_teleop.recorder_tap import Received, Tap, TapWait
from aloe_teleop.recorder_topics import EXECUTED, MODE, TASK, recorded_topics

_MIB = 1 << 20
_TURN_S = 0.02  # between two looks at what has arrived
_DRIVING = (ControlMode.POLICY, ControlMode.HUMAN)


class EpisodeRecorder(AloeLifecycleNode):
    """Serves recorder/start and recorder/stop; see docs/architecture.md for the topics it records.

    Messages are taken raw every 20 ms and written by a thread of their own. Latched topics (task, mode, checkpoint,
    camera_info) are remembered between takes and open every bag. A failed write or a full disk ends the take as
    FAILED or ABORTED; it is never reported as success.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("episode_recorder", **kwargs)
        self._contract = declare_contract(self)
        self._lockstep = declare_lockstep(self)
        self._bag_dir = declare(self, "bag_dir", "bags", "Folder of bags for requests that name none.")
        self._extra = declare(self, "topics", [""], "Further topics to record, each name:package/msg/Type.")
        self._reserve = _MIB * declare(
            self, "min_free_mb", 256, "Disk space that must stay free, MiB.", low=0, high=1 << 30
        )
        self._take_size = _MIB * declare(
            self, "take_mb", 64, "Size of a take to make room for while none is known, MiB.", low=0, high=1 << 30
        )
        self._queue = _MIB * declare(self, "queue_mb", 64, "Messages waiting for the disk, MiB.", low=1, high=1 << 14)
        self._patience = declare(
            self, "stop_timeout", 2.0, "Wall seconds to wait for messages that are still on their way.", low=0, high=60
        )
        self._taps: list[Tap] = []
        self._take: Take | None = None
        self._state = RecorderStatus.IDLE
        self._detail = ""

    def configure(self) -> None:
        self._recovered: set[Path] = set()
        self._recover(Path(self._bag_dir))
        self._taps = [
            Tap(self, topic, lockstep=self._lockstep) for topic in recorded_topics(self._contract, self._extra)
        ]
        self._index = {tap.topic.name: number for number, tap in enumerate(self._taps)}
        self._joints = self._index[self._contract.control.joint_states_topic]
        self._newest: dict[int, Received] = {}  # of latched topics and sensors, for takes that begin after them
        self._mode: int | None = None
        self._task = Task()
        self._time = TakeClock(simulated=self.get_parameter("use_sim_time").value)
        self._last_message = time.monotonic()
        self._rate = 0.0  # bytes/s of the running take
        self._status = self.create_publisher(RecorderStatus, "recorder/status", qos.LATCHED)
        self._events = self.create_publisher(EpisodeEvent, "episode/event", qos.COMMAND)
        self._offered = [
            self.create_service(StartRecording, "recorder/start", self._on_start),
            self.create_service(StopRecording, "recorder/stop", self._on_stop),
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._clocks = [
            self.create_timer(_TURN_S, self._turn, clock=steady),
            self.create_timer(1.0, self._every_second, clock=steady),
        ]
        self._diagnostics = Diagnostics(self, self._report)
        self._publish_status()

    def deactivate(self) -> None:
        self.close("the recorder was deactivated")

    def cleanup(self) -> None:
        self.close()
        for tap in self._taps:
            tap.close()
        for timer in self._clocks:
            self.destroy_timer(timer)
        for service in self._offered:
            self.destroy_service(service)
        self._diagnostics.close()
        self._taps = []

    def close(self, reason: str = "the recorder was shut down") -> None:
        """Finish a running take as ABORTED; publishes nothing."""
        take, self._take = self._take, None
        if take is not None and take.error is None:
            path = take.abort(reason).result()
            self.get_logger().warning(f"{path.name}: {reason}, kept as ABORTED.")

    # Services -----------------------------------------------------------------------------------------------------

    def _on_start(self, request, response):
        try:
            response.path = str(self._start(request).path)
            response.success = True
        except AloeError as error:
            self.get_logger().error(str(error))
            response.message = str(error)
        return response

    def _on_stop(self, request, response):
        try:
            response.path = str(self._stop(request))
            response.success = True
        except AloeError as error:
            self.get_logger().error(str(error))
            response.message = str(error)
        return response

    def _start(self, request) -> Take:
        if self._take is not None:
            raise AloeError(f"Episode {self._take.labels.episode_id} is still being recorded: stop it first.")
        folder = Path(request.folder or self._bag_dir).expanduser()
        self._recover(folder)
        self._turn()
        episode_id = request.episode_id or new_ulid()
        labels = EpisodeLabels(
            episode_id=episode_id,
            task=request.task,
            instruction=request.instruction,
            seed=request.seed,
            supervision=self._task.supervision if self._task.episode_id == episode_id else "",
            operator=request.operator_name,
            contract=self._contract.name,
            contract_hash=self._contract.hash,
        )
        self._review()
        streams = [Stream(tap.name, tap.type, tap.offered(), tap.topic.rate_hz) for tap in self._taps]
        take = Take(
            folder,
            bag_name(episode_id, request.task),
            labels,
            streams,
            executed=self._taps[self._index[EXECUTED]].name,
            decode_step=_decode_step,
            min_free=self._reserve + self._take_size,
            queue_bytes=self._queue,
        )
        take.open_with(self._before())
        self._take = take
        self._rate = 0.0
        self._started = time.monotonic()
        self._enter(RecorderStatus.RECORDING, "")
        return take

    def _stop(self, request) -> Path:
        take = self._take
        if take is None:
            raise AloeError(self._detail or "Nothing is being recorded.")
        labels = self._labels(take, request)
        self._enter(RecorderStatus.FINISHING, "")
        missing = self._drain(take, labels)
        self._take = None
        try:
            path = take.finish(labels).result()
        except AloeError as error:
            self._fail(take, str(error))
            raise
        self._take_size = max(self._take_size, sum(file.stat().st_size for file in path.iterdir()))
        event = EpisodeEvent.SAVED
        if request.discard:
            path = move_to_trash(path)
            event = EpisodeEvent.DISCARDED
        self._announce(event, labels, str(path))
        self._enter(RecorderStatus.IDLE, missing)
        return path

    def _labels(self, take: Take, request) -> EpisodeLabels:
        if request.episode_id not in ("", take.labels.episode_id):
            raise AloeError(f"Episode {take.labels.episode_id} is being recorded, not {request.episode_id}.")
        if request.outcome not in set(Outcome):
            raise bad_value("recorder/stop", "outcome", request.outcome, "0 to 3 (EpisodeEvent OUTCOME_*)")
        if request.end not in ENDS:
            raise bad_value("recorder/stop", "end", request.end, "one of " + ", ".join(ENDS))
        return replace(
            take.labels,
            outcome=Outcome(request.outcome),
            end=request.end,
            reason=request.reason,
            label_stamp=stamps.to_ns(request.label_stamp),
        )

    def _drain(self, take: Take, labels: EpisodeLabels) -> str:
        """Take what is still on its way; return what did not come, or nothing."""
        wait = TapWait(self, self._taps)
        deadline = time.monotonic() + self._patience
        dt = round(self._contract.dt * 1e9)
        while True:
            self._receive()
            if labels.outcome is Outcome.ABORTED or self._tail(take).whole(labels.label_stamp, dt):
                return ""
            if time.monotonic() >= deadline:
                break
            wait(_TURN_S)
        tail = self._tail(take)
        missing = f"stopped {labels.episode_id} without its last messages after {self._patience} s: {tail}"
        self.get_logger().warning(missing)
        return missing

    def _tail(self, take: Take) -> Tail:
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
            quiet=time.monotonic() - self._last_message,
        )

    # Receiving ----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._receive()
        take = self._take
        if take is not None and take.error is not None:
            self._take = None
            self._fail(take, str(take.error))

    def _receive(self) -> None:
        """Empty all taps into the take, or into the void between takes."""
        items = []
        for number, tap in enumerate(self._taps):
            for message in tap.take():
                self._remember(number, tap, message)
                log, publish = self._time.times(message, leads=number == self._joints)
                items.append((Item(number, message.data, log, publish, message.sequence), message.stamp, message.lost))
        if items:
            self._last_message = time.monotonic()
            if self._take is not None:
                self._take.put(items)

    def _remember(self, number: int, tap: Tap, message: Received) -> None:
        if tap.topic.latched or tap.topic.sensor:
            self._newest[number] = message
        if tap.topic.name == MODE:
            self._mode = deserialize_message(message.data, ControlMode).mode
        elif tap.topic.name == TASK:
            self._task = deserialize_message(message.data, Task)
            take = self._take
            if take is not None and self._task.episode_id == take.labels.episode_id:
                take.labels = replace(take.labels, supervision=self._task.supervision)

    def _before(self) -> list[Item]:
        """Return what a take opens with: latched messages, and the state and frames that the episode starts from."""
        now = self._time.start()
        joints = self._newest.get(self._joints)
        items = []
        for number, message in self._newest.items():
            topic = self._taps[number].topic
            if topic.sensor and abs(message.stamp - joints.stamp if joints else now) > 2e9 / topic.rate_hz:
                continue
            publish = now if topic.latched else self._time.times(message, leads=False)[1]
            items.append(Item(number, message.data, now, publish, message.sequence))
        return items

    def _review(self) -> None:
        for tap in self._taps:
            if tap.review():
                self.get_logger().info(f"{tap.name}: subscribed anew, as its publishers offer it.")
            if tap.mixed_offers:
                self.get_logger().warning(f"{tap.name}: publishers offer different QoS.", once=True)

    # Once a second ------------------------------------------------------------------------------------------------

    def _every_second(self) -> None:
        take = self._take
        if take is None:
            self._review()
            return
        self._rate = take.message_bytes / max(1.0, time.monotonic() - self._started)
        if shutil.disk_usage(take.path.parent).free < self._reserve:
            self._take = None
            path = take.abort("the disk is nearly full").result()
            self._fail(take, f"{path}: ended as ABORTED, less than {self._reserve // _MIB} MiB left on the disk.")
            return
        self._publish_status()

    def _fail(self, take: Take, detail: str) -> None:
        self.get_logger().error(detail)
        self._announce(EpisodeEvent.FAILED, take.labels.aborted(detail), detail)
        self._enter(RecorderStatus.ERROR, detail, take)

    def _recover(self, folder: Path) -> None:
        """Once per folder: make bags of what a crash left behind."""
        if folder in self._recovered:
            return
        self._recovered.add(folder)
        for done in recover_folder(folder):
            log = self.get_logger().error if done.status is Status.FAILED else self.get_logger().warning
            log(f"{done.path}: {done.detail}")

    # Telling ------------------------------------------------------------------------------------------------------

    def _enter(self, state: int, detail: str, take: Take | None = None) -> None:
        self._state, self._detail = state, detail
        self._publish_status(take)

    def _announce(self, event: int, labels: EpisodeLabels, detail: str) -> None:
        msg = EpisodeEvent(
            episode_id=labels.episode_id,
            task=labels.task,
            event=event,
            outcome=int(labels.outcome),
            end=labels.end,
            detail=detail,
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._events.publish(msg)

    def _publish_status(self, take: Take | None = None) -> None:
        take = take or self._take
        msg = RecorderStatus(state=self._state, detail=self._detail, disk_minutes_left=-1.0)
        msg.header.stamp = self.get_clock().now().to_msg()
        if take is not None:
            msg.episode_id = take.labels.episode_id
            msg.path = str(take.path)
            msg.topics = [stream.name for stream in take.streams]
            msg.received = [count.received for count in take.counts]
            msg.dropped = [count.dropped for count in take.counts]
            msg.max_gap = [count.max_gap for count in take.counts]
            if self._rate > 0:
                left = shutil.disk_usage(take.path.parent).free - self._reserve
                msg.disk_minutes_left = max(0.0, left / self._rate / 60)
        self._status.publish(msg)

    def _report(self) -> Report:
        take = self._take
        if self._state == RecorderStatus.ERROR:
            return ERROR, self._detail, {}
        if take is None:
            return (WARN, self._detail, {}) if self._detail else (OK, "idle", {})
        received = sum(count.received for count in take.counts)
        dropped = sum(count.dropped for count in take.counts)
        gaps = sum(count.gaps for count in take.counts)
        values = {"episode_id": take.labels.episode_id, "received": received, "dropped": dropped, "gaps": gaps}
        if dropped or gaps:
            return WARN, f"{dropped} messages lost, {gaps} gaps in this take", values
        return OK, "recording", values


def _decode_step(data: bytes) -> ExecutedStep:
    return deserialize_message(data, ExecutedStep)


def main() -> int:
    return run(EpisodeRecorder, close=EpisodeRecorder.close)


if __name__ == "__main__":
    sys.exit(main())

"""One bag per episode: everything on the graph, raw, crash-safe, with labels."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from aloe_msgs.msg import EpisodeEvent, ExecutedStep, RecorderStatus
from aloe_msgs.srv import StartRecording, StopRecording
from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message

from aloe_core.episode.data import Outcome
from aloe_core.episode.files import move_to_trash
from aloe_core.episode.labels import ENDS, EpisodeLabels
from aloe_core.episode.names import bag_name, new_ulid
from aloe_core.episode.quality import Limits
from aloe_core.episode.recover import Status, recover_folder
from aloe_core.errors import AloeError, bad_value
from aloe_ros import stamps
from aloe_ros.node import AloeLifecycleNode, run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep
from aloe_teleop.recorder_inbox import Inbox
from aloe_teleop.recorder_take import Take
from aloe_teleop.recorder_voice import Voice

_MIB = 1 << 20
_TURN_S = 0.02  # between two looks at what has arrived


class EpisodeRecorder(AloeLifecycleNode):
    """Serves recorder/start and recorder/stop; see docs/architecture.md for the topics it records.

    Messages are taken raw every 20 ms and written by a thread of their own. What was latched before a take, and the
    state and frames its episode starts from, open every bag. A failed write or a full disk ends the take as FAILED,
    a shutdown as ABORTED; neither is ever reported as success. What a take lacks of the promised rates is told while it
    runs, and what fails its quality check with the answer to recorder/stop and in its labels.
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
        self._sync_period = declare(
            self, "sync_period", 2.0, "Seconds after which what came is on disk at the latest.", low=0.1, high=60.0
        )
        self._limits = Limits(
            max_gaps=declare(
                self, "max_gaps", 5, "Gaps in a stream (over 0.1 s) that fail a take's quality check.", low=1, high=1000
            ),
            min_rate=declare(
                self,
                "min_rate",
                0.9,
                "Share of the promised messages below which a stream fails the quality check.",
                low=0.0,
                high=1.0,
            ),
        )
        self._take: Take | None = None
        self._active = False

    def configure(self) -> None:
        self._recovered: set[Path] = set()
        self._recover(self._folder(""))
        self._inbox = Inbox(self, self._contract, self._extra, lockstep=self._lockstep)
        self._voice = Voice(self, self._reserve, self._folder(""))
        self._endpoints = [
            self.create_service(StartRecording, "recorder/start", self._on_start),
            self.create_service(StopRecording, "recorder/stop", self._on_stop),
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._turns = [
            self.create_timer(_TURN_S, self._turn, clock=steady),
            self.create_timer(1.0, self._every_second, clock=steady),
        ]
        self._voice.status()

    def activate(self) -> None:
        self._active = True

    def deactivate(self) -> None:
        self._active = False
        self.close("the recorder was deactivated")

    def cleanup(self) -> None:
        self.close()
        for timer in self._turns:
            self.destroy_timer(timer)
        for service in self._endpoints:
            self.destroy_service(service)
        self._inbox.close()
        self._voice.close()

    def close(self, reason: str = "the recorder was shut down") -> None:
        """Finish a running take as ABORTED; publishes nothing."""
        take, self._take = self._take, None
        if take is None or take.error is not None:
            return
        try:
            path = take.abort(reason).result()
        except AloeError as error:
            self.get_logger().error(str(error))
        else:
            self.get_logger().warning(f"{path.name}: {reason}, kept as ABORTED.")

    # Services -----------------------------------------------------------------------------------------------------

    def _on_start(self, request, response):
        return self._answer(lambda: self._start(request).path, response)

    def _on_stop(self, request, response):
        self._answer(lambda: self._stop(request), response)
        if response.success and self._voice.quality:
            response.message = f"The take failed its quality check: {self._voice.quality}."
        return response

    def _answer(self, action, response):
        try:
            response.path = str(action())
            response.success = True
        except AloeError as error:
            self.get_logger().error(str(error))
            response.message = str(error)
        return response

    def _start(self, request) -> Take:
        if not self._active:
            raise AloeError("The recorder is not active.")
        if self._take is not None:
            raise AloeError(f"Episode {self._take.labels.episode_id} is still being recorded: stop it first.")
        folder = self._folder(request.folder)
        self._recover(folder)
        self._inbox.receive()
        self._review(recording=False)
        labels = EpisodeLabels(
            episode_id=request.episode_id or new_ulid(),
            task=request.task,
            instruction=request.instruction,
            seed=request.seed,
            operator=request.operator_name,
            contract=self._contract.name,
            contract_hash=self._contract.hash,
        )
        take = Take(
            folder,
            bag_name(labels.episode_id, labels.task),
            labels,
            self._inbox.streams(),
            executed=self._inbox.executed,
            decode_step=_decode_step,
            min_free=self._reserve + self._take_size,
            queue_bytes=self._queue,
            sync_period=self._sync_period,
            limits=self._limits,
        )
        take.open_with(self._inbox.before())
        self._inbox.renew()
        self._take = take
        self._voice.quality = ""
        self._voice.enter(RecorderStatus.RECORDING, take)
        return take

    def _stop(self, request) -> Path:
        take = self._take
        if take is None:
            raise AloeError(self._voice.detail or "Nothing is being recorded.")
        labels = self._labels(take, request)
        self._voice.enter(RecorderStatus.FINISHING, take)
        missing = self._drain(take, labels)
        task = self._inbox.task
        if task.episode_id == labels.episode_id:
            labels = replace(labels, supervision=task.supervision)
        self._take = None
        try:
            path = take.finish(labels).result()
        except AloeError as error:
            self._fail(take, str(error))
            raise
        self._take_size = max(self._take_size, sum(file.stat().st_size for file in path.iterdir()))
        self._voice.quality = quality = take.quality()
        if quality:
            self.get_logger().warning(f"{path.name}: failed its quality check: {quality}.")
        event = EpisodeEvent.SAVED
        if request.discard:
            path = move_to_trash(path)
            event = EpisodeEvent.DISCARDED
        self._voice.event(event, labels, str(path))
        self._voice.enter(RecorderStatus.IDLE, detail=missing)
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
        """Receive what is still on its way; return what did not come, or nothing."""
        deadline = time.monotonic() + self._patience
        dt = round(self._contract.dt * 1e9)
        while True:
            take.put(self._inbox.receive())
            tail = self._inbox.tail(take)
            if labels.outcome is Outcome.ABORTED or tail.whole(labels.label_stamp, dt):
                return ""
            if time.monotonic() >= deadline:
                break
            self._inbox.wait(_TURN_S)
        missing = f"Episode {labels.episode_id} stopped without its last messages after {self._patience} s: {tail}"
        self.get_logger().warning(missing)
        return missing

    # Running ------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        arrivals = self._inbox.receive()
        take = self._take
        if take is None:
            return
        take.put(arrivals)
        if take.error is not None:
            self._fail(take, str(take.error))
            return
        if not self._inbox.simulated:  # simulated streams stand still with their clock
            for fallen in take.watch():
                self.get_logger().warning(fallen)

    def _every_second(self) -> None:
        take = self._take
        self._review(recording=take is not None)
        if take is None:
            return
        if shutil.disk_usage(take.path.parent).free < self._reserve:
            self._end_for_space(take)
        else:
            self._voice.status()

    def _review(self, *, recording: bool) -> None:
        self._inbox.review(recording=recording)
        self._voice.mixed = self._inbox.mixed

    def _end_for_space(self, take: Take) -> None:
        try:
            path = take.abort("the disk is nearly full").result()
        except AloeError as error:
            self._fail(take, str(error))
            return
        left = f"less than {self._reserve // _MIB} MiB left on the disk"
        self._fail(take, f"{path}: ended as ABORTED, {left}.")

    def _fail(self, take: Take, detail: str) -> None:
        self._take = None
        self.get_logger().error(detail)
        self._voice.event(EpisodeEvent.FAILED, take.labels.aborted(detail), detail)
        self._voice.enter(RecorderStatus.ERROR, take, detail)

    def _folder(self, name: str) -> Path:
        return Path(name or self._bag_dir).expanduser()

    def _recover(self, folder: Path) -> None:
        """Once per folder: make bags of what a crash left behind."""
        if folder in self._recovered:
            return
        self._recovered.add(folder)
        for done in recover_folder(folder):
            log = self.get_logger().error if done.status is Status.FAILED else self.get_logger().warning
            log(f"{done.path}: {done.detail}")


def _decode_step(data: bytes) -> ExecutedStep:
    return deserialize_message(data, ExecutedStep)


def main() -> int:
    return run(EpisodeRecorder, events=False, close=EpisodeRecorder.close)


if __name__ == "__main__":
    sys.exit(main())

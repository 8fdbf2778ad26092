"""When to infer, and from what: a pure object fed with what arrives, asked for the next request."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from aloe_core.contract import Camera, RobotContract
from aloe_core.episode.data import Source
from aloe_core.pacing import longest_delay, plan_after
from aloe_core.types import Chunk, Plan
from aloe_policy.splice import SpliceLog

_ROUNDING = 1_000  # ns by which stamps of one instant may differ
_FRAMES_KEPT = 8
_FRESH, _OVERDUE = 0.25, 1.5  # control periods since a joint state arrived


@dataclass(frozen=True)
class Request:
    """One inference: the observation, its frames still compressed."""

    stamp: int  # ns, of the joint state
    state: np.ndarray  # float32 [J]
    jpegs: dict[str, bytes]
    instruction: str
    seed: int
    chunk_number: int
    arrived: float  # s, monotonic: when the joint state was received
    complete: float  # s, monotonic: when the last frame was there too
    delay: int = 0  # control steps from the joint state to the chunk, as expected; 0 in lock-step
    previous: Chunk | None = None  # runs meanwhile
    due: int = 0  # row of the new chunk that is the first after the steps `previous` is meant for

    @property
    def plan(self) -> Plan | None:
        """What is left of the chunk that runs."""
        return plan_after(self.previous, self.stamp, self.due) if self.previous is not None else None


@dataclass
class _Task:
    episode_id: str
    instruction: str
    seed: int
    executed: set[str] = field(default_factory=set)  # chunks of which a step ran


class Latency:
    """Mean and mean deviation of the time from request to chunk, s."""

    def __init__(self) -> None:
        self.mean: float | None = None
        self.deviation = 0.0

    def add(self, seconds: float) -> None:
        if self.mean is None:
            self.mean = seconds
        self.deviation += 0.2 * (abs(seconds - self.mean) - self.deviation)
        self.mean += 0.2 * (seconds - self.mean)

    @property
    def expected(self) -> float:
        """A time that most inferences keep; 0 before the first one."""
        return (self.mean or 0.0) + 2 * self.deviation


class ChunkScheduler:
    """Decides from which joint state the next chunk is inferred (docs/architecture.md, Time and lock-step).

    Stamps are ns of ROS time; `clock` arguments are seconds of a monotonic clock. Not thread-safe.
    In lock-step a chunk is due at the joint state that follows its last executed row, and every frame due at that
    stamp is waited for. Otherwise the next chunk is requested early by the latency measured so far, and stale
    input fails closed. Either way a request carries what is left of the chunk that runs.
    """

    def __init__(self, contract: RobotContract, lockstep: bool, frame_timeout: float = 2.0) -> None:
        self.latency = Latency()
        self.splices = SpliceLog()
        self._contract = contract
        self._lockstep = lockstep
        self._frame_timeout = frame_timeout
        self._task: _Task | None = None
        self._driving = False
        self._mode_sequence = -1
        self._fence = 0
        self._state: tuple[int, np.ndarray, float] | None = None
        self._frames: dict[str, deque[tuple[int, bytes]]] = {
            name: deque(maxlen=_FRAMES_KEPT) for name in contract.camera_names
        }
        self._answered = -1  # stamp of the newest executed step
        self._request: Request | None = None  # in flight
        self._chunk: Chunk | None = None  # published, governs what is due next
        self._seen_at_publish = -1
        self._failed = -1  # stamp of a request that gave no chunk
        self.problem: str | None = None

    def on_task(self, episode_id: str, instruction: str, seed: int) -> bool:
        """A new episode id starts the chunk count afresh; returns whether it is new."""
        if self._task is not None and self._task.episode_id == episode_id:
            self._task.instruction, self._task.seed = instruction, seed
            return False
        self._task = _Task(episode_id, instruction, seed)
        return True

    def on_mode(self, driving: bool, sequence: int, fence: int) -> None:
        """Take a mode message; `driving` means POLICY.

        Every change, seen by its sequence number, drops chunk and request. Observations before `fence` (ns, the
        stamp of the change) do not count: the arbiter would not run what was inferred from them.
        """
        if (driving, sequence) != (self._driving, self._mode_sequence):
            self._driving, self._mode_sequence, self._fence = driving, sequence, fence
            self._request = self._chunk = self.problem = None
            self._failed = -1

    def on_joint_state(self, stamp: int, state: np.ndarray, clock: float) -> None:
        """`state` float32 [J] in contract order; time going backwards forgets everything seen."""
        if self._state is not None and stamp < self._state[0]:
            self._answered = self._failed = self._fence = -1
            self._request = self._chunk = None
            for frames in self._frames.values():
                frames.clear()
        self._state = (stamp, state, clock)

    def on_frame(self, camera: str, stamp: int, jpeg: bytes) -> None:
        self._frames[camera].append((stamp, jpeg))

    def on_executed(self, stamp: int, source: int, chunk_id: str, episode_id: str) -> None:
        """What the arbiter ran; a hold while it should be running our chunk means that it does not have it."""
        self._answered = max(self._answered, stamp)
        if chunk_id and self._task is not None and self._task.episode_id == episode_id:
            self._task.executed.add(chunk_id)
        holds = source == Source.HOLD or (source == Source.HUMAN and not chunk_id)  # the arms left to the policy
        if holds and self._chunk is not None and stamp > self._seen_at_publish:
            self._chunk = None

    def next_request(self, now: int, clock: float) -> Request | None:
        """Return the inference to start now, if any; call after every event. `now` is ROS time, ns."""
        if not self._driving or self._task is None or self._state is None or not self._due(now, clock):
            return None
        stamp, state, arrived = self._state
        jpegs = self._complete(stamp, now, clock - arrived)
        if jpegs is None:
            return None
        self.problem = None
        task = self._task
        number = len(task.executed)
        delay, due = self._pace(stamp, now)
        self._request = Request(
            stamp, state, jpegs, task.instruction, task.seed, number, arrived, clock, delay, self._chunk, due
        )
        return self._request

    @property
    def warning(self) -> str | None:
        """Why the robot has to wait, at all or at chunk borders, if it does."""
        if self._driving and (self._state is None or self._task is None):
            missing = "joint state" if self._state is None else "task"
            return f"the policy drives, and no {missing} has come: is its sender running, and heard here?"
        horizon, delay = self._contract.chunk.horizon, self._steps(self.latency.expected)
        if self._lockstep or delay <= longest_delay(horizon):
            return None
        return (
            f"chunks take {delay} control steps: expected at most {longest_delay(horizon)}, half of the horizon of "
            f"{horizon}; the robot waits where they meet."
        )

    def on_chunk(self, request: Request, chunk: Chunk, clock: float, now: int = 0) -> bool:
        """Take an inferred chunk; returns whether it is still wanted and must be published. `now` as above."""
        self.latency.add(clock - request.complete)
        if request is not self._request:
            return False
        self._request = None
        if not self._lockstep:
            self.splices.see(chunk, request.previous, request.due, now)
        self._chunk = chunk
        self._seen_at_publish = self._state[0] if self._state is not None else -1
        return True

    def on_failure(self, request: Request, why: str) -> None:
        """An inference gave no chunk: the same joint state is not tried again."""
        if request is self._request:
            self._request = None
            self._failed = request.stamp
            self.problem = why

    def _due(self, now: int, clock: float) -> bool:
        assert self._state is not None
        stamp, _, arrived = self._state
        if stamp <= self._failed or stamp < self._fence:
            return False
        if self._lockstep:
            if stamp <= self._answered:
                return False
            began = self._request.stamp if self._request is not None else self._chunk.stamp if self._chunk else None
            return began is None or self._row(stamp, began) >= self._contract.chunk.execute
        if self._request is not None:
            return False
        if self._chunk is None:
            return True
        if _FRESH < (clock - arrived) / self._contract.dt < _OVERDUE:
            return False  # whatever else arrives: the next joint state is near, and there was time for it in `lead`
        lead = self.latency.expected + self._contract.dt  # joint states come one period apart
        return (now - self._chunk.stamp) * 1e-9 + lead >= self._chunk.execute * self._contract.dt

    def _pace(self, stamp: int, now: int) -> tuple[int, int]:
        """Return the expected delay of a chunk observed at `stamp` and the row at which it takes over, both in rows."""
        if self._lockstep:
            return 0, 0
        delay = self._steps((now - stamp) * 1e-9 + self.latency.expected)
        left = self._chunk.execute - self._row(stamp, self._chunk.stamp) if self._chunk is not None else 0
        return delay, max(delay, left)

    def _steps(self, seconds: float) -> int:
        return max(0, math.ceil(seconds / self._contract.dt - 1e-6))

    def _frame_period(self, camera: Camera) -> float:
        """Simulated frames fall on control steps, so their period (s) may be a little shorter than declared."""
        steps = max(1, round(self._contract.control.rate_hz / camera.rate_hz))
        return min(1.0 / camera.rate_hz, steps * self._contract.dt)

    def _row(self, stamp: int, began: int) -> int:
        return round((stamp - began) * 1e-9 / self._contract.dt)

    def _complete(self, stamp: int, now: int, waited: float) -> dict[str, bytes] | None:
        """Return the frames that belong to the joint state of `stamp`, None (and a problem) without them."""
        limits = self._contract.staleness
        age = (now - stamp) * 1e-9
        if not self._lockstep and age > limits.joint_states:
            self.problem = f"joint state is {age:.3f} s old: expected at most {limits.joint_states} s."
            return None
        jpegs = {}
        for camera in self._contract.cameras:
            frames = self._frames[camera.name]
            if self._lockstep:
                newest = next((f for f in reversed(frames) if f[0] <= stamp), None)
                period = self._frame_period(camera)
                fresh = newest is not None and stamp - newest[0] < period * 1e9 - _ROUNDING
                expected = f"one less than {period:.3f} s older than the joint state"
            else:
                newest = frames[-1] if frames else None
                fresh = newest is not None and (now - newest[0]) * 1e-9 <= limits.camera
                expected = f"one at most {limits.camera} s old"
            if newest is None or not fresh:
                if not self._lockstep or waited > self._frame_timeout:
                    reference = stamp if self._lockstep else now
                    got = "none" if newest is None else f"one {(reference - newest[0]) * 1e-9:.3f} s old"
                    self.problem = f"camera {camera.name}: newest frame is {got}: expected {expected}."
                return None
            jpegs[camera.name] = newest[1]
        return jpegs

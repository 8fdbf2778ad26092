"""One episode in process: what the ROS graph does in lock-step, without ROS."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Frames, Outcome, Source
from aloe_core.errors import AloeError
from aloe_core.safety import Clamp, SafetyFilter
from aloe_core.types import Chunk, Observation, PolicyRuntime
from aloe_sim.human import HumanConfig, ScriptedHuman, Supervision
from aloe_sim.station import Station, frame_period

JPEG_QUALITY = 90


def run_episode(
    station: Station,
    seed: int,
    policy: PolicyRuntime | None = None,
    supervision: Supervision = "watch",
    human: HumanConfig | None = None,
    *,
    time_limit: float = 0.0,
    record: bool = True,
    episode_id: str = "",
) -> EpisodeData:
    """Reset `station` to `seed` and run one episode; `policy` may be None only when a person demonstrates.

    `time_limit` in s, 0 for the task's own. With `record=False` only the frames a policy looks at are rendered, and
    the episode returned has no frames.
    """
    if policy is None and supervision != "demonstrate":
        raise AloeError(f"Supervision {supervision} needs a policy to drive; without one only demonstrate works.")
    station.reset(seed)
    person = ScriptedHuman(station, human, seed, supervision, time_limit)
    camera = _Cameras(station, supervision, record)
    arbiter = _Arbiter(station, seed, policy)
    limit = round((time_limit or station.time_limit) / station.contract.dt)
    log = _Log()
    while True:
        camera.look(arbiter.next_inference)
        log.stamps.append(station.stamp)
        log.state.append(station.joint_positions())
        deed = person.update()
        if deed.label is not None or station.tick >= limit:
            break
        station.step(arbiter.answer(deed.command if deed.engaged else None, camera, log))
    return log.episode(
        station, arbiter, deed.label, camera.frames(), seed, episode_id or f"{station.task_name}_{station.level}_{seed}"
    )


def encode(image: np.ndarray) -> bytes:
    """Return the JPEG of an RGB image [height, width, 3], as the camera node sends it."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def decode(jpeg: bytes) -> np.ndarray:
    """Return the RGB image [height, width, 3] of a JPEG, as the policy node sees it."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class _Cameras:
    """Frames as they fall due: rendered, encoded, kept."""

    def __init__(self, station: Station, supervision: Supervision, record: bool) -> None:
        self._station = station
        self._record = record
        # A person can hand back at any tick, and the policy then looks at the newest frame there is.
        self._all = record or supervision == "supervise"
        self._period = {name: frame_period(station.contract, name) for name in station.contract.camera_names}
        self._stamps: dict[str, list[int]] = {name: [] for name in self._period}
        self._jpegs: dict[str, list[bytes]] = {name: [] for name in self._period}

    def look(self, next_inference: int | None) -> None:
        """Take the frames due now; unless all are wanted, those the inference at that tick will see."""
        tick = self._station.tick
        for name, period in self._period.items():
            wanted = self._all or (next_inference is not None and tick <= next_inference < tick + period)
            if wanted and tick % period == 0:
                self._stamps[name].append(self._station.stamp)
                self._jpegs[name].append(encode(self._station.render(name)))

    def newest(self) -> dict[str, np.ndarray]:
        """Return the newest frame of each camera, decoded."""
        return {name: decode(jpegs[-1]) for name, jpegs in self._jpegs.items()}

    def frames(self) -> dict[str, Frames]:
        if not self._record:
            return {}
        return {n: Frames(np.array(self._stamps[n], np.int64), tuple(self._jpegs[n])) for n in self._period}


class _Arbiter:
    """Who drives: the person while engaged, else the policy, chunk by chunk; everything through the safety filter."""

    def __init__(self, station: Station, seed: int, policy: PolicyRuntime | None) -> None:
        self._station = station
        self._seed = seed
        self._policy = policy
        self._filter = SafetyFilter(station.contract)
        self._motion = self._filter.rest(station.joint_positions())
        self._chunk: Chunk | None = None
        self._row = 0
        self.chunks: list[Chunk] = []

    @property
    def next_inference(self) -> int | None:
        """Tick at which the policy will look next if nobody interferes."""
        if self._policy is None:
            return None
        return self._station.tick + (self._chunk.execute - self._row if self._chunk else 0)

    def answer(self, command: np.ndarray | None, cameras: _Cameras, log: _Log) -> np.ndarray:
        """Return the action [A] to execute at this tick and log it."""
        row = -1
        if command is not None:
            self._chunk, source = None, Source.HUMAN
            requested = np.asarray(command, np.float32).astype(np.float64)  # TeleopCommand has single precision
        elif self._policy is not None:
            if self._chunk is None or self._row >= self._chunk.execute:
                self._infer(self._policy, cameras)
            source, row = Source.POLICY, self._row
            requested = self._chunk.actions[row].astype(np.float64)
            self._row += 1
        else:
            source, requested = Source.HOLD, np.full(self._station.contract.action_dim, np.nan)
        held = self._motion.position if source is Source.HOLD else requested
        self._motion, clamps = self._filter.apply(held, self._motion)
        log.add(requested, self._motion.position, source, len(self.chunks) - 1 if row >= 0 else -1, row, clamps)
        return self._motion.position

    def _infer(self, policy: PolicyRuntime, cameras: _Cameras) -> None:
        station = self._station
        observation = Observation(
            stamp=station.stamp,
            images=cameras.newest(),
            state=station.joint_positions(),
            instruction=station.instruction,
            seed=self._seed,
            chunk_number=len(self.chunks),
        )
        self._chunk, self._row = policy.infer(observation).chunk, 0
        self.chunks.append(self._chunk)


@dataclass
class _Log:
    """Rows of an EpisodeData, as they come."""

    stamps: list[int] = field(default_factory=list)
    state: list[np.ndarray] = field(default_factory=list)
    requested: list[np.ndarray] = field(default_factory=list)
    executed: list[np.ndarray] = field(default_factory=list)
    source: list[Source] = field(default_factory=list)
    chunk: list[int] = field(default_factory=list)
    chunk_index: list[int] = field(default_factory=list)
    clamped: int = 0

    def add(
        self, requested: np.ndarray, executed: np.ndarray, source: Source, chunk: int, row: int, clamps: Clamp
    ) -> None:
        self.requested.append(requested)
        self.executed.append(executed)
        self.source.append(source)
        self.chunk.append(chunk)
        self.chunk_index.append(row)
        self.clamped += bool(clamps)

    def episode(
        self,
        station: Station,
        arbiter: _Arbiter,
        label: Outcome | None,
        frames: dict[str, Frames],
        seed: int,
        episode_id: str,
    ) -> EpisodeData:
        contract: RobotContract = station.contract
        steps, dim = len(self.source), contract.action_dim
        return EpisodeData(
            episode_id=episode_id,
            task=station.task_name,
            instruction=station.instruction,
            seed=seed,
            outcome=label or Outcome.NONE,
            end="terminated" if label else "truncated",
            contract_hash=contract.hash,
            dt=contract.dt,
            stamps=np.array(self.stamps, np.int64),
            state=np.stack(self.state).astype(np.float32),
            requested=np.array(self.requested, np.float32).reshape(steps, dim),
            executed=np.array(self.executed, np.float32).reshape(steps, dim),
            source=np.array(self.source, np.uint8),
            chunk=np.array(self.chunk, np.int32),
            chunk_index=np.array(self.chunk_index, np.int32),
            frames=frames,
            chunk_ids=tuple(c.chunk_id for c in arbiter.chunks),
            policy_versions=tuple(c.policy_version for c in arbiter.chunks),
            info={"level": station.level, "clamped_steps": self.clamped, "stage": station.stage},
        )

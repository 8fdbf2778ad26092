"""One episode in process: what the ROS graph does in lock-step, without ROS."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np

from aloe_core.arbiter import Arbiter
from aloe_core.control import AskMode, Mode, RobotState, Step, TaskInfo, Teleop
from aloe_core.episode.data import EpisodeData, Frames, Outcome
from aloe_core.errors import AloeError
from aloe_core.pacing import check_delay, paced, plan_after
from aloe_core.types import Chunk, Observation, PolicyRuntime
from aloe_sim.human import HumanAction, HumanConfig, ScriptedHuman, Supervision
from aloe_sim.privileged import object_state
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
    observe: Literal["images", "objects"] = "images",
    delay: int = 0,
    start: np.ndarray | None = None,
) -> EpisodeData:
    """Reset `station` to `seed` and run one episode; `policy` may be None only when a person demonstrates.

    `time_limit` in s, 0 for the task's own. With `record=False` only the frames a policy looks at are rendered, and
    the episode returned has no frames. With `observe="objects"` nothing is rendered: policy and episode get poses.
    `delay` in control steps: every chunk but the first, and the first after a person, is computed from the observation
    that long before it takes over, at most half the horizon. The robot waits for the others, as in lock-step.
    `start`: a snapshot of this station in the episode it was last reset to; go on from there, `seed` being only noise.
    """
    check_delay(station.contract.chunk.horizon, delay)
    if policy is None and supervision != "demonstrate":
        raise AloeError(f"Supervision {supervision} needs a policy to drive; without one only demonstrate works.")
    if start is None:
        station.reset(seed)
    else:
        station.restore(start)
    person = ScriptedHuman(station, human, seed, supervision, time_limit)
    name = episode_id or f"{station.task_name}_{station.level}_{seed}"
    cameras = _Cameras(station, supervision, record, observe == "objects")
    driver = _Driver(station, seed, policy, supervision, name, delay)
    limit = round((time_limit or station.time_limit) / station.contract.dt)
    log = _Log()
    while True:
        cameras.look(driver.next_inference)
        log.see(station)
        deed = person.update()
        if deed.label is not None or station.tick >= limit:
            return replace(log.episode(station, deed.label, cameras.frames(), seed, name), objects=cameras.objects())
        log.steps.append(driver.answer(deed, cameras))
        station.step(log.steps[-1].executed)


def encode(image: np.ndarray) -> bytes:
    """Return the JPEG of an RGB image [height, width, 3], as the camera node sends it."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def decode(jpeg: bytes) -> np.ndarray:
    """Return the RGB image [height, width, 3] of a JPEG, as the policy node sees it."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class _Cameras:
    """Frames as they fall due: rendered, encoded, kept."""

    def __init__(self, station: Station, supervision: Supervision, record: bool, blind: bool = False) -> None:
        """`blind`: look at poses of objects in place of frames."""
        self._station = station
        self._record = record and not blind
        self._keeps_objects = record and blind
        self._blind = blind
        self._objects: list[np.ndarray] = []
        # A person can hand back at any tick, and the policy then looks at the newest frame there is.
        self._all = record or supervision == "supervise"
        self._period = {name: frame_period(station.contract, name) for name in station.contract.camera_names}
        self._stamps: dict[str, list[int]] = {name: [] for name in self._period}
        self._jpegs: dict[str, list[bytes]] = {name: [] for name in self._period}

    def look(self, next_inference: int | None) -> None:
        """Take the frames due now; unless all are wanted, those the inference at that tick will see."""
        if self._blind:
            if self._keeps_objects:
                self._objects.append(object_state(self._station))
            return
        tick = self._station.tick
        for name, period in self._period.items():
            wanted = self._all or (next_inference is not None and tick <= next_inference < tick + period)
            if wanted and tick % period == 0:
                self._stamps[name].append(self._station.stamp)
                self._jpegs[name].append(encode(self._station.render(name)))

    def newest(self) -> dict[str, np.ndarray]:
        """Return the newest frame of each camera, decoded."""
        return {} if self._blind else {name: decode(jpegs[-1]) for name, jpegs in self._jpegs.items()}

    def newest_objects(self) -> np.ndarray | None:
        return object_state(self._station) if self._blind else None

    def objects(self) -> np.ndarray | None:
        return np.stack(self._objects) if self._keeps_objects else None

    def frames(self) -> dict[str, Frames]:
        if not self._record:
            return {}
        return {n: Frames(np.array(self._stamps[n], np.int64), tuple(self._jpegs[n])) for n in self._period}


class _Driver:
    """The control side of the graph: the arbiter itself, fed by the person and the policy."""

    def __init__(
        self,
        station: Station,
        seed: int,
        policy: PolicyRuntime | None,
        supervision: Supervision,
        episode_id: str,
        delay: int,
    ) -> None:
        self._station = station
        self._seed = seed
        self._policy = policy
        self._arbiter = Arbiter(station.contract, lockstep=True, start=Mode.RESET, model=station.contract_model)
        self._arbiter.update(0, TaskInfo(episode_id, supervision))
        if supervision != "demonstrate":
            self._arbiter.update(0, AskMode(Mode.POLICY, "episode begins"))
        self._joints = np.arange(station.contract.action_dim)
        self._engaged = False
        self._delay = delay
        self._chunk: Chunk | None = None  # runs, or ran last
        self._next: Chunk | None = None  # computed, takes over when the other is through
        self._sequence = self._arbiter.sequence
        self._chunk_number = 0

    @property
    def next_inference(self) -> int | None:
        """Tick at which the policy will look next if nobody interferes."""
        if self._policy is None:
            return None
        newest = self._next or self._chunk
        spent = round(newest.stamp * 1e-9 / newest.dt) + newest.execute - self._delay if newest else 0
        return max(self._station.tick, spent)

    def answer(self, deed: HumanAction, cameras: _Cameras) -> Step:
        """Return what the arbiter does about the station's present joint state."""
        stamp = self._station.stamp
        if deed.engaged:
            # TeleopCommand has single precision.
            command = np.asarray(deed.command, np.float32).astype(np.float64)
            self._arbiter.update(0, Teleop(stamp, True, self._joints, command))
        elif self._engaged:
            self._arbiter.update(0, Teleop(stamp, False))
        self._engaged = deed.engaged
        state = self._station.joint_positions()
        step = self._arbiter.update(0, RobotState(stamp, state.astype(np.float64))).step
        if self._arbiter.sequence != self._sequence:  # a mode change ends chunks
            self._sequence, self._chunk, self._next = self._arbiter.sequence, None, None
        if step is None and self._policy is not None:
            self._chunk = self._next or self._infer(self._policy, state, cameras, 0)
            self._next = None
            step = self._arbiter.update(0, self._chunk).step
        if step is None:
            raise AloeError(
                f"Nobody drives at {self._station.time:.2f} s: no policy, or a chunk that does not begin there."
            )
        if self._delay and self._policy is not None and self._chunk is not None:
            looks = self._chunk.execute - self._delay == step.chunk_index
            if looks and step.chunk_id == self._chunk.chunk_id:
                self._next = self._infer(self._policy, state, cameras, self._delay)
        return step

    def _infer(self, policy: PolicyRuntime, state: np.ndarray, cameras: _Cameras, frozen: int) -> Chunk:
        """Return the policy's chunk for this state; `frozen` rows will be over when it takes over."""
        station = self._station
        observation = Observation(
            stamp=station.stamp,
            images=cameras.newest(),
            objects=cameras.newest_objects(),
            state=state,
            instruction=station.instruction,
            seed=self._seed,
            chunk_number=self._chunk_number,
            plan=plan_after(self._chunk, station.stamp, frozen) if self._chunk is not None else None,
        )
        self._chunk_number += 1
        return paced(policy.infer(observation).chunk, self._delay)


class _Log:
    """Rows of an EpisodeData, as they come."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.state: list[np.ndarray] = []
        self.steps: list[Step] = []

    def see(self, station: Station) -> None:
        self.stamps.append(station.stamp)
        self.state.append(station.joint_positions())

    def episode(
        self, station: Station, label: Outcome | None, frames: dict[str, Frames], seed: int, episode_id: str
    ) -> EpisodeData:
        contract, steps = station.contract, self.steps
        versions = {s.chunk_id: s.policy_version for s in steps if s.chunk_id}
        number = {chunk_id: i for i, chunk_id in enumerate(versions)}
        shape = (len(steps), contract.action_dim)
        nothing = np.full(contract.action_dim, np.nan)
        requested = [nothing if s.requested is None else s.requested for s in steps]
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
            state=np.stack(self.state),
            requested=np.array(requested, np.float32).reshape(shape),
            executed=np.array([s.executed for s in steps], np.float32).reshape(shape),
            source=np.array([s.source for s in steps], np.uint8),
            chunk=np.array([number.get(s.chunk_id, -1) for s in steps], np.int32),
            chunk_index=np.array([s.chunk_index for s in steps], np.int32),
            frames=frames,
            chunk_ids=tuple(versions),
            policy_versions=tuple(versions.values()),
            group_source=np.array([s.group_source for s in steps], np.uint8).reshape(len(steps), -1),
            info={
                "level": station.level,
                "variant": station.variant,
                "randomisation": station.randomisation,
                "disturbed": [(tick, one.kind, one.target) for tick, one in station.disturbed],
                "stage": station.stage,
                "clamped_steps": sum(bool(s.clamp) for s in steps),
            },
        )

"""Replay: what learners see of the episodes. Observations are rows; windows point at them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Outcome, Source
from aloe_core.episode.transitions import chunk_transitions
from aloe_core.errors import AloeError
from aloe_critic.replay.frames import CACHE_BYTES, FrameCache, decode, decode_episode
from aloe_critic.replay.windows import DENSE_BYTES, LazyChunks, Windows
from aloe_policy.model import ObsBatch
from aloe_policy.text import tokenize

_RELEASE_EVERY = 256  # episodes


@dataclass
class Replay:
    """Observation rows and the windows over them; pixels are decoded on demand.

    A row is kept wherever a window begins or ends, that is for every camera frame period. Beside the cache of decoded
    frames (`cache_bytes`) a row takes about 0.2 kB; episodes added with `add` also keep their JPEG bytes.
    """

    contract: RobotContract
    stride: int
    buckets: int
    episodes: list[EpisodeData] = field(default_factory=list)
    cache_bytes: int = CACHE_BYTES
    feature_dim: int = 0  # width of the frozen features kept in place of the frames; 0 = frames
    release: Callable[[], None] = lambda: None  # called now and then while all episodes are read through

    def __post_init__(self) -> None:
        cameras = self.contract.cameras
        self._sizes = [(camera.height, camera.width) for camera in cameras]
        if len(set(self._sizes)) != 1:
            raise AloeError(
                f"Contract {self.contract.name}: cameras of different sizes ("
                + ", ".join(f"{c.name} {c.width}x{c.height}" for c in cameras)
                + "): expected one size, for a batch is one tensor."
            )
        self.cache = FrameCache(self._sizes[0], self.cache_bytes, self._load)
        self._frames = 0  # of all cameras and episodes
        self._first_frame: list[int] = []  # of each episode and camera
        self._rows = 0
        self._first_row: list[int] = []  # of each episode
        self._steps: list[np.ndarray] = []  # int32, steps of each episode that have a row, ascending
        self._frame = _Parts()  # int64 [rows, cameras]
        self._state = _Parts()  # float32 [rows, J]
        self._words: dict[str, int] = {}  # instruction -> its number
        self._instruction = _Parts()  # int64 [rows]

    def add(self, ep: EpisodeData, *, checked: bool = False) -> None:
        """Index one episode; AloeError if it does not fit the contract or misses a camera.

        checked: its frames have been decoded before (they come from a store), no need to look at them now.
        """
        check_episode(ep, self.contract)
        decoded = None if checked else decode_episode(ep, self.contract)
        windows = chunk_transitions(ep, self.contract.chunk.execute, max_length=1, failure_cost=1, stride=self.stride)
        wanted = np.union1d(windows.start, windows.next)
        frame = np.empty((len(wanted), len(self._sizes)), np.int64)
        for column, camera in enumerate(self.contract.camera_names):
            recorded = ep.frames[camera]
            frame[:, column] = self._frames + recorded.newest(ep.stamps[wanted]).clip(0)
            self._first_frame.append(self._frames)
            self._frames += len(recorded.jpegs)
            self.cache.grow(self._frames)
            if decoded is not None and len(decoded[camera][0]) <= self.cache.room:
                self.cache.put(self._first_frame[-1] + decoded[camera][0], decoded[camera][1])
        self._first_row.append(self._rows)
        self._rows += len(wanted)
        self._steps.append(wanted.astype(np.int32))
        self._frame.append(frame)
        self._state.append(ep.state[wanted])
        number = self._words.setdefault(ep.instruction, len(self._words))
        self._instruction.append(np.full(len(wanted), number, np.int64))
        self.episodes.append(ep)
        self._release(len(self.episodes))

    @property
    def rows(self) -> int:
        return self._rows

    def state(self) -> Tensor:
        """Joint positions of every observation row, float32 [rows, J]."""
        return self._state.tensor()

    def text(self) -> Tensor:
        """Words of the instruction at every observation row, int64 [rows, words]."""
        return self._tokens()[self._instruction.tensor()]

    def frame_index(self) -> Tensor:
        """Number of each camera's frame at every row, int64 [rows, cameras]."""
        return self._frame.tensor()

    def windows(self, *, gamma: float, max_length: float, failure_cost: float) -> Windows:
        """Windows of every episode at the replay's stride, scored with these rewards."""
        if not self.episodes:
            raise AloeError("Replay: no episodes to learn from; record some first.")
        h, horizon = self.contract.chunk.execute, self.contract.chunk.horizon
        scores = {"max_length": max_length, "failure_cost": failure_cost, "gamma": gamma, "stride": self.stride}
        parts: dict[str, list[np.ndarray]] = {}
        for number, ep in enumerate(self.episodes):
            short = chunk_transitions(ep, h, **scores)
            for name, value in (
                ("episode", np.full(len(short), number)),
                ("obs", self._row(number, short.start)),
                ("next_obs", self._row(number, short.next)),
                ("start", short.start),
                ("plan_length", chunk_transitions(ep, horizon, **scores).length),
                ("length", short.length),
                ("reward", short.reward),
                ("discount", short.discount),
                ("source", short.source),
            ):
                parts.setdefault(name, []).append(value)
            self._release(number)
        columns = {name: np.concatenate(value) for name, value in parts.items()}
        lazy = LazyChunks(
            self.episodes, columns["episode"], columns.pop("start"), columns["plan_length"], horizon, self.release
        )
        dense = 4 * lazy.shape.numel() <= DENSE_BYTES
        return Windows(
            chunk=lazy[:] if dense else lazy,  # type: ignore[arg-type]
            **{name: torch.from_numpy(value) for name, value in columns.items()},
        )

    def outcome(self, outcome: Outcome) -> Tensor:
        """Which episodes ended so, bool [episodes]."""
        return torch.tensor([ep.outcome == outcome for ep in self.episodes])

    def human_share(self) -> float:
        """Share of control steps commanded by a person."""
        human = sum(int((ep.source == Source.HUMAN).sum()) for ep in self.episodes)
        return human / max(1, sum(ep.steps for ep in self.episodes))

    def pixels(self, rows: Tensor) -> Tensor:
        """Return the frames of these observation rows, uint8 [B, cameras, 3, H, W] (channels last in memory)."""
        if self.feature_dim:
            raise AloeError("Replay: the store keeps features in place of images; index the bags anew to keep JPEG.")
        frame = self._frame.tensor()[rows]
        images = self.cache.get(frame.reshape(-1).numpy())
        return images.view(*frame.shape, *images.shape[1:]).permute(0, 1, 4, 2, 3)

    def features(self, rows: Tensor) -> Tensor:
        """Return the frozen features of these rows, float32 [B, cameras, feature_dim]; AloeError if frames are kept."""
        if not self.feature_dim:
            raise AloeError("Replay: frames are kept, not features; open a store with an encoder.")
        frame = self._frame.tensor()[rows]
        kept = [np.frombuffer(self._payload(number), "<f2") for number in frame.reshape(-1).tolist()]
        return torch.from_numpy(np.stack(kept).astype(np.float32)).view(*frame.shape, self.feature_dim)

    def batch(self, rows: Tensor) -> ObsBatch:
        """Observations of these rows with images."""
        text = self._tokens()[self._instruction.tensor()[rows]]
        return ObsBatch(images=self.pixels(rows), state=self.state()[rows], text=text)

    def _tokens(self) -> Tensor:
        return torch.tensor([tokenize(text, self.buckets) for text in self._words])

    def _row(self, number: int, steps: np.ndarray) -> np.ndarray:
        return self._first_row[number] + np.searchsorted(self._steps[number], steps)

    def _load(self, frame: int) -> np.ndarray:
        ep, camera, index = self._find(frame)
        return decode(ep.frames[camera].jpegs[index], f"Episode {ep.episode_id}, camera {camera!r}", self._sizes[0])

    def _payload(self, frame: int) -> bytes:
        ep, camera, index = self._find(frame)
        return ep.frames[camera].jpegs[index]

    def _find(self, frame: int) -> tuple[EpisodeData, str, int]:
        at = bisect_right(self._first_frame, frame) - 1
        episode, camera = divmod(at, len(self._sizes))
        return self.episodes[episode], self.contract.camera_names[camera], frame - self._first_frame[at]

    def _release(self, number: int) -> None:
        if number % _RELEASE_EVERY == _RELEASE_EVERY - 1:
            self.release()


def check_episode(ep: EpisodeData, contract: RobotContract) -> None:
    """AloeError unless the episode was recorded under this contract and has steps."""
    if ep.contract_hash != contract.hash:
        raise AloeError(
            f"Episode {ep.episode_id}: contract_hash = {ep.contract_hash!r}: expected {contract.hash!r}, "
            f"the hash of contract {contract.name}."
        )
    if ep.steps == 0:
        raise AloeError(f"Episode {ep.episode_id}: no executed steps; discard it.")


class _Parts:
    """Arrays that are appended to and read as one; joined when read."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def append(self, part: np.ndarray) -> None:
        self._parts.append(part)

    def tensor(self) -> Tensor:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return torch.from_numpy(self._parts[0])

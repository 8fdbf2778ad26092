"""Replay: episodes as arrays that a learner can index. Observations are rows; windows point at them."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Outcome, Source
from aloe_core.episode.transitions import chunk_transitions
from aloe_core.errors import AloeError
from aloe_policy.model import ObsBatch
from aloe_policy.text import tokenize


@dataclass(frozen=True)
class Windows:
    """N action windows of all episodes, as tensors."""

    episode: Tensor  # int64 [N]
    obs: Tensor  # int64 [N], observation row at the start
    next_obs: Tensor  # int64 [N], observation row after the executed prefix
    chunk: Tensor  # float32 [N, H, A], executed positions; rows past `plan_length` repeat the last
    plan_length: Tensor  # int64 [N], rows of `chunk` that one source really ran, up to H
    length: Tensor  # int64 [N], executed steps scored by the critic, up to h
    reward: Tensor  # float32 [N], discounted and normalised
    discount: Tensor  # float32 [N], gamma^length, 0 where terminated
    source: Tensor  # uint8 [N], Source

    def __len__(self) -> int:
        return len(self.obs)


@dataclass
class Replay:
    """All observations in memory (images as decoded uint8) and the windows over them.

    An observation is kept for every camera frame period and wherever a window begins or ends.
    """

    contract: RobotContract
    stride: int
    buckets: int
    episodes: list[EpisodeData] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._images: dict[str, list[np.ndarray]] = {c: [] for c in self.contract.camera_names}
        self._count = dict.fromkeys(self.contract.camera_names, 0)
        self._frame: list[np.ndarray] = []  # int64 [rows, cameras] per episode
        self._state: list[np.ndarray] = []
        self._text: list[np.ndarray] = []
        self._row_of: list[np.ndarray] = []  # step -> observation row, -1 where none is kept
        self._rows = 0
        self._stacked: tuple[int, list[Tensor]] | None = None

    def add(self, ep: EpisodeData) -> None:
        """Index one episode; AloeError if it does not fit the contract or misses a camera."""
        if ep.contract_hash != self.contract.hash:
            raise AloeError(
                f"Episode {ep.episode_id}: contract_hash = {ep.contract_hash!r}: expected {self.contract.hash!r}, "
                f"the hash of contract {self.contract.name}."
            )
        if ep.steps == 0:
            raise AloeError(f"Episode {ep.episode_id}: no executed steps; discard it.")
        wanted = self._wanted_steps(ep)
        frames = np.stack([self._add_frames(ep, c, wanted) for c in self.contract.camera_names], 1)
        row_of = np.full(ep.steps + 1, -1, np.int64)
        row_of[wanted] = self._rows + np.arange(len(wanted))
        self._rows += len(wanted)
        self._row_of.append(row_of)
        self._frame.append(frames)
        self._state.append(ep.state[wanted])
        self._text.append(np.tile(tokenize(ep.instruction, self.buckets), (len(wanted), 1)))
        self.episodes.append(ep)

    @property
    def rows(self) -> int:
        return self._rows

    def state(self) -> Tensor:
        """Joint positions of every observation row, float32 [rows, J]."""
        return torch.from_numpy(np.concatenate(self._state)).float()

    def text(self) -> Tensor:
        return torch.from_numpy(np.concatenate(self._text))

    def frame_index(self) -> Tensor:
        """Frame of each camera at every row, int64 [rows, cameras]."""
        return torch.from_numpy(np.concatenate(self._frame))

    def images(self) -> list[Tensor]:
        """Frames of each camera, uint8 [frames, 3, H, W]."""
        if self._stacked is None or self._stacked[0] != len(self.episodes):
            stacked = [torch.from_numpy(np.concatenate(self._images[c])) for c in self.contract.camera_names]
            for camera, images in zip(self.contract.camera_names, stacked, strict=True):
                self._images[camera] = [images.numpy()]
            self._stacked = (len(self.episodes), stacked)
        return self._stacked[1]

    def windows(self, *, gamma: float, max_length: float, failure_cost: float) -> Windows:
        """Windows of every episode at the replay's stride, scored with these rewards."""
        h, horizon = self.contract.chunk.execute, self.contract.chunk.horizon
        parts: dict[str, list[np.ndarray]] = {name: [] for name in Windows.__dataclass_fields__}
        for number, (ep, row_of) in enumerate(zip(self.episodes, self._row_of, strict=True)):
            scores = {"max_length": max_length, "failure_cost": failure_cost, "gamma": gamma, "stride": self.stride}
            short = chunk_transitions(ep, h, **scores)
            long = chunk_transitions(ep, horizon, **scores)
            for name, value in (
                ("episode", np.full(len(short), number)),
                ("obs", row_of[short.start]),
                ("next_obs", row_of[short.next]),
                ("chunk", long.chunks(ep.executed)),
                ("plan_length", long.length),
                ("length", short.length),
                ("reward", short.reward),
                ("discount", short.discount),
                ("source", short.source),
            ):
                parts[name].append(value)
        if not self.episodes:
            raise AloeError("Replay: no episodes to learn from; record some first.")
        return Windows(**{name: torch.from_numpy(np.concatenate(value)) for name, value in parts.items()})

    def outcome(self, outcome: Outcome) -> Tensor:
        """Which episodes ended so, bool [episodes]."""
        return torch.tensor([ep.outcome == outcome for ep in self.episodes])

    def human_share(self) -> float:
        """Share of control steps commanded by a person."""
        human = sum(int((ep.source == Source.HUMAN).sum()) for ep in self.episodes)
        return human / max(1, sum(ep.steps for ep in self.episodes))

    def pixels(self, rows: Tensor) -> Tensor:
        """Return the frames of these observation rows, uint8 [B, cameras, 3, H, W]."""
        frame, images = self.frame_index()[rows], self.images()
        return torch.stack([images[c][frame[:, c]] for c in range(len(images))], 1)

    def batch(self, rows: Tensor) -> ObsBatch:
        """Observations of these rows with images."""
        return ObsBatch(images=self.pixels(rows), state=self.state()[rows], text=self.text()[rows])

    def _wanted_steps(self, ep: EpisodeData) -> np.ndarray:
        windows = chunk_transitions(ep, self.contract.chunk.execute, max_length=1, failure_cost=1, stride=self.stride)
        return np.union1d(windows.start, windows.next).astype(np.int64)

    def _add_frames(self, ep: EpisodeData, camera: str, steps: np.ndarray) -> np.ndarray:
        frames = ep.frames.get(camera)
        if frames is None or not frames.jpegs:
            raise AloeError(f"Episode {ep.episode_id}: no frames of camera {camera!r}, which the contract names.")
        newest = frames.newest(ep.stamps[steps]).clip(0)
        used, index = np.unique(newest, return_inverse=True)
        spec = self.contract.camera(camera)
        decoded = np.stack([_decode(frames.jpegs[i], ep.episode_id, camera) for i in used])
        if decoded.shape[1:3] != (spec.height, spec.width):
            raise AloeError(
                f"Episode {ep.episode_id}: camera {camera!r} has frames of {decoded.shape[2]}x{decoded.shape[1]}: "
                f"expected {spec.width}x{spec.height}."
            )
        self._images[camera].append(np.ascontiguousarray(decoded.transpose(0, 3, 1, 2)))
        base = self._count[camera]
        self._count[camera] += len(used)
        return base + index.reshape(-1)


def _decode(jpeg: bytes, episode: str, camera: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise AloeError(f"Episode {episode}: a frame of camera {camera!r} is not a JPEG.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

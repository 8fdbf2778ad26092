"""Replay: what learners see of the episodes. Observations are rows; windows point at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Outcome
from aloe_core.errors import AloeError
from aloe_critic.replay import index
from aloe_critic.replay.check import check_episode
from aloe_critic.replay.columns import FileColumn, MemoryColumn, scratch
from aloe_critic.replay.frames import CACHE_BYTES, FrameCache, decode, decode_episode
from aloe_critic.replay.store import ReplayStore
from aloe_critic.replay.tables import Tables, spec
from aloe_critic.replay.windows import DENSE_BYTES, LazyChunks, Windows, score
from aloe_policy.model import ObsBatch
from aloe_policy.text import tokenize

RESIDENT_BYTES = 64 << 20  # tables up to this size need not be let go of
RELEASE_EPISODES = 256  # read through before pages are let go of
RELEASE_ROWS = 512  # looked up before they are; each may make 16 pages of every column resident
_SCORED = 1 << 20  # windows at once


@dataclass
class Replay:
    """Observation rows and the windows over them; pixels are decoded on demand.

    A row is kept wherever a window begins or ends, that is for every camera frame period. Episodes come one by one with
    `add`, and are then all in memory with their JPEG bytes, or from a store with `attach`: then tables, frames and
    episodes are read from files when asked for, and memory does not grow with them.
    """

    contract: RobotContract
    stride: int  # control steps between windows
    buckets: int  # of words
    cache_bytes: int = CACHE_BYTES  # for decoded frames
    feature_dim: int = 0  # width of the frozen features kept in place of the frames; 0 = frames

    def __post_init__(self) -> None:
        contract = self.contract
        cameras = contract.cameras
        sizes = {(camera.height, camera.width) for camera in cameras}
        if len(sizes) != 1:
            raise AloeError(
                f"Contract {contract.name}: cameras of different sizes ("
                + ", ".join(f"{c.name} {c.width}x{c.height}" for c in cameras)
                + "): expected one size, for a batch is one tensor."
            )
        (self._size,) = sizes
        self.cache = FrameCache(self._size, self.cache_bytes, self._load)
        self.episodes: Sequence[EpisodeData] = []
        self._store: ReplayStore | None = None
        self._tables = Tables({name: MemoryColumn(*kind) for name, kind in spec(contract).items()})
        self._scores: list[FileColumn] = []
        self._words: dict[str, int] = {}  # instruction -> its number
        self._tasks: dict[str, int] = {}
        self._touched = 0  # rows looked up since pages were let go of

    def add(self, ep: EpisodeData, *, checked: bool = False) -> None:
        """Keep one episode in memory; AloeError if it does not fit the contract or misses a camera.

        checked: its frames have been decoded before (they come from a store), no need to look at them now.
        """
        if not isinstance(self.episodes, list):
            raise AloeError("Replay: its episodes come from a store; append them there.")
        check_episode(ep, self.contract)
        decoded = None if checked else decode_episode(ep, self.contract)
        self._tables.append(ep, self.contract, self.stride, **self._numbers(ep.instruction, ep.task), entry=-1)
        self.episodes.append(ep)
        first = self._tables["first_frame"][-1].tolist()
        for camera, at in zip(self.contract.camera_names, first, strict=True):
            if decoded is not None:
                self.cache.put(at + decoded[camera][0], decoded[camera][1])

    def attach(self, store: ReplayStore, bags: Sequence[str]) -> None:
        """See these bags of a store, in this order, in place of all others; they must be there and usable."""
        self._store, self.feature_dim = store, store.feature_dim
        self._words, self._tasks = {}, {}
        self.cache = FrameCache(self._size, self.cache_bytes, self._load)  # frames of other bags had the same numbers

        def key(number: int) -> index.Key | None:
            if number >= len(bags):
                return None
            entry = store.entries[bags[number]]
            return entry.bag, entry.signature, entry.at, entry.payload_at

        with index.opened(store.folder / f"view-{self.stride}", spec(self.contract), key) as known:
            for facts in known.facts:
                self._numbers(*facts)
            for bag in bags[known.tables.count("episode") :]:
                position = store.entries.position(bag)
                entry = store.entries.at(position)
                numbers = self._numbers(entry.instruction, entry.task)
                known.tables.append(store.episode(entry), self.contract, self.stride, **numbers, entry=position)
                known.add((entry.bag, entry.signature, entry.at, entry.payload_at), entry.instruction, entry.task)
                if known.tables.count("episode") % RELEASE_EPISODES == 0:
                    store.release()
        self._tables = known.tables
        self.episodes = StoredEpisodes(store, self._tables["entry"])
        self.release()

    @property
    def rows(self) -> int:
        return self._tables.count("row")

    def state(self) -> Tensor:
        """Joint positions of every observation row, float32 [rows, J]."""
        return self._tables["state"]

    def text(self) -> Tensor:
        """Words of the instruction at every observation row, int64 [rows, words]."""
        return self._tokens()[self._tables["instruction"]]

    def instructions(self, rows: Tensor) -> list[str]:
        """What was asked for at these observation rows."""
        words = list(self._words)
        return [words[number] for number in self._tables["instruction"][rows].tolist()]

    def frame_index(self) -> Tensor:
        """Number of each camera's frame at every row, int64 [rows, cameras]."""
        return self._tables["frame"]

    def windows(self, *, gamma: float, max_length: float, failure_cost: float) -> Windows:
        """Windows of every episode at the replay's stride, scored with these rewards."""
        if not len(self.episodes):
            raise AloeError("Replay: no episodes to learn from; record some first.")
        if not self._tables.count("window"):
            raise AloeError(f"Replay: none of {len(self.episodes)} episodes has a step whose successor was recorded.")
        t, (h, horizon) = self._tables, (self.contract.chunk.execute, self.contract.chunk.horizon)
        reward, discount = (self._score_column() for _ in range(2))
        for begin in range(0, t.count("window"), _SCORED):
            part = slice(begin, begin + _SCORED)
            scores = {"gamma": gamma, "max_length": max_length, "failure_cost": failure_cost}
            for column, values in zip(
                (reward, discount), score(t["length"][part], t["ending"][part], h, **scores), strict=True
            ):
                column.append(values.numpy())
        lazy = LazyChunks(t["executed"], t["start"], t["plan_length"], horizon, self._use)
        # From a store they stay there: a gather costs little, and memory is not to grow with the data.
        dense = self._store is None and 4 * lazy.shape.numel() <= DENSE_BYTES
        return Windows(
            chunk=lazy[:] if dense else lazy,  # type: ignore[arg-type]
            reward=reward.tensor(),
            discount=discount.tensor(),
            **{name: t[name] for name in ("episode", "obs", "next_obs", "plan_length", "length", "source")},
        )

    def outcome(self, outcome: Outcome) -> Tensor:
        """Which episodes ended so, bool [episodes]."""
        return self._tables["outcome"] == int(outcome)

    def lengths(self) -> Tensor:
        """Control steps of each episode, int64 [episodes]."""
        return self._tables["steps"]

    def tasks(self) -> tuple[list[str], Tensor]:
        """Names of the tasks, and which of them each episode was, int64 [episodes]."""
        return list(self._tasks), self._tables["task"]

    def human_share(self) -> float:
        """Share of control steps commanded by a person."""
        return int(self._tables["human"].sum()) / max(1, int(self.lengths().sum()))

    def pixels(self, rows: Tensor) -> Tensor:
        """Return the frames of these observation rows, uint8 [B, cameras, 3, H, W] (channels last in memory)."""
        if self.feature_dim:
            raise AloeError("Replay: the store keeps features in place of images; index the bags anew to keep JPEG.")
        frame = self._tables["frame"][rows]
        images = self.cache.get(frame.reshape(-1).numpy())
        self._use(len(rows))
        return images.view(*frame.shape, *images.shape[1:]).permute(0, 1, 4, 2, 3)

    def features(self, rows: Tensor) -> Tensor:
        """Return the frozen features of these rows, float32 [B, cameras, feature_dim]; AloeError if frames are kept."""
        if not self.feature_dim:
            raise AloeError("Replay: frames are kept, not features; open a store with an encoder.")
        frame = self._tables["frame"][rows]
        kept = [np.frombuffer(self._payload(number), "<f2") for number in frame.reshape(-1).tolist()]
        self._use(len(rows))
        return torch.from_numpy(np.stack(kept).astype(np.float32)).view(*frame.shape, self.feature_dim)

    def batch(self, rows: Tensor) -> ObsBatch:
        """Observations of these rows with images."""
        text = self._tokens()[self._tables["instruction"][rows]]
        return ObsBatch(images=self.pixels(rows), state=self.state()[rows], text=text)

    def release(self) -> None:
        """Let go of the pages that reading has made resident; they stay in the system's page cache."""
        self._tables.release()
        for column in self._scores:
            column.release()
        if self._store is not None:
            self._store.release()
        self._touched = 0

    def _use(self, rows: int) -> None:
        self._touched += rows
        if self._touched >= RELEASE_ROWS and self._store is not None and self._tables.bytes > RESIDENT_BYTES:
            self.release()

    def _numbers(self, instruction: str, task: str) -> dict[str, int]:
        return {
            "instruction": self._words.setdefault(instruction, len(self._words)),
            "task": self._tasks.setdefault(task, len(self._tasks)),
        }

    def _score_column(self) -> FileColumn | MemoryColumn:
        if self._store is None:
            return MemoryColumn("<f4", ())
        column = scratch(self._store.folder, "<f4")
        self._scores = [*self._scores[-3:], column]  # of the newest windows; older ones are seldom still in use
        return column

    def _tokens(self) -> Tensor:
        return torch.tensor([tokenize(text, self.buckets) for text in self._words])

    def _load(self, frame: int, out: np.ndarray) -> None:
        try:
            decode(self._payload(frame), "", self._size, out)
        except AloeError:
            number, camera, _ = self._find(frame)
            what = f"Episode {self.episodes[number].episode_id}, camera {camera!r}"
            decode(self._payload(frame), what, self._size, out)

    def _payload(self, frame: int) -> bytes:
        if self._store is not None:
            at, size = self._tables["payload"][frame].tolist()
            return self._store.payloads().read(at, size)
        number, camera, at = self._find(frame)
        return self.episodes[number].frames[camera].jpegs[at]

    def _find(self, frame: int) -> tuple[int, str, int]:
        """Return episode, camera and place of a frame there."""
        first = self._tables["first_frame"]
        at = int(np.searchsorted(first.reshape(-1).numpy(), frame, side="right")) - 1
        episode, camera = divmod(at, first.shape[1])
        return episode, self.contract.camera_names[camera], frame - int(first[episode, camera])


class StoredEpisodes(Sequence[EpisodeData]):
    """Episodes of a store, made when indexed."""

    def __init__(self, store: ReplayStore, positions: Tensor) -> None:
        """`positions`: where the store's journal has each, int64 [episodes]."""
        self._store, self._positions = store, positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> EpisodeData: ...
    @overload
    def __getitem__(self, index: slice) -> list[EpisodeData]: ...
    def __getitem__(self, index: int | slice) -> EpisodeData | list[EpisodeData]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._store.episode(self._store.entries.at(int(self._positions[range(len(self))[index]])))

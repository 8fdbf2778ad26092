"""JPEG frames to pixels, and a cache of decoded frames with a byte budget."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_core.errors import AloeError

CACHE_BYTES = 512 << 20
_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # OpenCV 4.11; spares a pass over the image


def decode(jpeg: bytes, what: str, size: tuple[int, int]) -> np.ndarray:
    """Return an RGB image, uint8 [H, W, 3]; AloeError if it is no JPEG of `size` (H, W)."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR if _RGB is None else _RGB) if jpeg else None
    if image is None:
        raise AloeError(f"{what}: a frame is not a JPEG.")
    if image.shape[:2] != size:
        raise AloeError(f"{what}: frames of {image.shape[1]}x{image.shape[0]}: expected {size[1]}x{size[0]}.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if _RGB is None else image


def decode_episode(ep: EpisodeData, contract: RobotContract) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, per camera, which frames the episode's steps see, int64 [n], and those frames, uint8 [n, H, W, 3].

    AloeError if a camera has no frames, or a frame is not what the contract promises.
    """
    frames = {}
    for camera in contract.cameras:
        recorded = ep.frames.get(camera.name)
        if recorded is None or not len(recorded.jpegs):
            raise AloeError(f"Episode {ep.episode_id}: no frames of camera {camera.name!r}, which the contract names.")
        used = np.unique(recorded.newest(ep.stamps).clip(0))
        what, size = f"Episode {ep.episode_id}, camera {camera.name!r}", (camera.height, camera.width)
        frames[camera.name] = (used, np.stack([decode(recorded.jpegs[i], what, size) for i in used.tolist()]))
    return frames


class FrameCache:
    """Decoded frames by number. The frame that has been kept longest makes room for a new one.

    Batches are drawn at random, so that any frame is as likely to be asked for next: to know which was used last
    would gain nothing.
    """

    def __init__(self, size: tuple[int, int], budget: int, load: Callable[[int], np.ndarray]) -> None:
        """Frames are uint8 [H, W, 3] with (H, W) = `size`; `load` decodes one and may be called by several threads."""
        self._size, self._load = size, load
        self._capacity = max(1, budget // (size[0] * size[1] * 3))
        self._store: Tensor | None = None  # uint8 [capacity, H, W, 3]; pages count only once they are written
        self._slot = np.empty(0, np.int32)  # of each frame, -1 if it is not kept
        self._owner = np.full(self._capacity, -1, np.int64)  # frame in each slot
        self._next = 0
        self._threads = max(1, min(8, os.cpu_count() or 1))
        self._pool: ThreadPoolExecutor | None = None

    @property
    def kept(self) -> int:
        return int((self._owner >= 0).sum())

    @property
    def bytes(self) -> int:
        """Memory the kept frames take."""
        return self.kept * self._size[0] * self._size[1] * 3

    @property
    def room(self) -> int:
        """Frames that fit without losing another."""
        return self._capacity - self.kept

    def grow(self, frames: int) -> None:
        """Let frames be numbered up to `frames`."""
        more = np.full(frames - len(self._slot), -1, np.int32)
        self._slot = np.concatenate([self._slot, more])

    def put(self, numbers: np.ndarray, images: np.ndarray) -> None:
        """Keep decoded frames, uint8 [n, H, W, 3], of which no number is kept already."""
        numbers, images = numbers[-self._capacity :], images[-self._capacity :]
        slots = (self._next + np.arange(len(numbers))) % self._capacity
        self._next = int(self._next + len(numbers)) % self._capacity
        evicted = self._owner[slots]
        self._slot[evicted[evicted >= 0]] = -1
        self._owner[slots] = numbers
        self._slot[numbers] = slots
        self._slab()[torch.from_numpy(slots)] = torch.from_numpy(images)

    def get(self, numbers: np.ndarray) -> Tensor:
        """Return frames uint8 [n, H, W, 3]; AloeError if one cannot be decoded."""
        slots = self._slot[numbers]
        missing = np.flatnonzero(slots < 0)
        if not len(missing):
            return self._slab().index_select(0, torch.from_numpy(slots))
        out = np.empty((len(numbers), *self._size, 3), np.uint8)
        hit = np.flatnonzero(slots >= 0)
        out[hit] = self._slab().numpy()[slots[hit]]
        wanted, index = np.unique(numbers[missing], return_inverse=True)
        images = self._decode(wanted)
        out[missing] = images[index.reshape(-1)]
        self.put(wanted, images)
        return torch.from_numpy(out)

    def _slab(self) -> Tensor:
        if self._store is None:
            self._store = torch.from_numpy(np.empty((self._capacity, *self._size, 3), np.uint8))
        return self._store

    def _decode(self, numbers: np.ndarray) -> np.ndarray:
        images = np.empty((len(numbers), *self._size, 3), np.uint8)

        def fill(part: range) -> None:
            for i in part:
                images[i] = self._load(int(numbers[i]))

        if self._threads == 1 or len(numbers) < 16:
            fill(range(len(numbers)))
            return images
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        parts = [range(i, len(numbers), self._threads) for i in range(self._threads)]
        for _ in self._pool.map(fill, parts):
            pass
        return images

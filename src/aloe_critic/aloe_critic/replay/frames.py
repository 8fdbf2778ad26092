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

CACHE_BYTES = 384 << 20
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
        # uint8 [capacity, H, W, 3]; its pages count only once they are written. NumPy copies it: OpenMP threads that
        # wait for each other on a busy machine cost twenty times what they gain.
        self._kept = np.empty((self._capacity, *size, 3), np.uint8)
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
        """Let frames be numbered below `frames`."""
        if frames > len(self._slot):
            more = max(frames, 2 * len(self._slot)) - len(
                self._slot
            )  # doubled, or many small steps would cost a square
            self._slot = np.concatenate([self._slot, np.full(more, -1, np.int32)])

    def put(self, numbers: np.ndarray, images: np.ndarray) -> None:
        """Keep decoded frames, uint8 [n, H, W, 3], n within the budget, of which no number is kept already."""
        slots = self._free(len(numbers))
        self._kept[slots] = images
        self._own(slots, numbers)

    def get(self, numbers: np.ndarray) -> Tensor:
        """Return frames uint8 [n, H, W, 3]; AloeError if one cannot be decoded."""
        slots = self._slot[numbers]
        missing = np.flatnonzero(slots < 0)
        if not len(missing):
            return torch.from_numpy(self._kept[slots])
        out = np.empty((len(numbers), *self._size, 3), np.uint8)
        hit = np.flatnonzero(slots >= 0)
        out[hit] = self._kept[slots[hit]]  # before anything is pushed out
        wanted, index = np.unique(numbers[missing], return_inverse=True)
        index = index.reshape(-1)
        for begin in range(0, len(wanted), self._capacity):
            part = wanted[begin : begin + self._capacity]
            slots = self._free(len(part))
            self._decode(part, slots)
            self._own(slots, part)
            of_part = np.flatnonzero((index >= begin) & (index < begin + len(part)))
            out[missing[of_part]] = self._kept[slots[index[of_part] - begin]]
        return torch.from_numpy(out)

    def _free(self, count: int) -> np.ndarray:
        """Return `count` slots whose frames are no longer kept."""
        slots = (self._next + np.arange(count)) % self._capacity
        self._next = (self._next + count) % self._capacity
        owner = self._owner[slots]
        self._slot[owner[owner >= 0]] = -1
        self._owner[slots] = -1
        return slots

    def _own(self, slots: np.ndarray, numbers: np.ndarray) -> None:
        self._owner[slots] = numbers
        self._slot[numbers] = slots

    def _decode(self, numbers: np.ndarray, slots: np.ndarray) -> None:
        pairs = list(zip(numbers.tolist(), slots.tolist(), strict=True))

        def fill(part: int) -> None:
            for number, slot in pairs[part :: self._threads]:
                self._kept[slot] = self._load(number)

        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        for _ in self._pool.map(fill, range(self._threads)):
            pass

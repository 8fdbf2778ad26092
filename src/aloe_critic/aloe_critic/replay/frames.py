"""JPEG frames to pixels, and a cache of decoded frames with a byte budget."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import simplejpeg
import torch
from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_core.errors import AloeError

CACHE_BYTES = 384 << 20
_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # OpenCV 4.11; spares a pass over the image


def decode(jpeg: bytes, what: str, size: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
    """Return an RGB image, uint8 [H, W, 3], written to `out` if given; AloeError if it is no JPEG of `size` (H, W).

    simplejpeg gives the pixels that OpenCV gives, in two thirds of the time and without a copy; what it does not take
    (a rotated frame, another format) OpenCV sees.
    """
    if out is None:
        out = np.empty((*size, 3), np.uint8)
    if b"Exif\0\0" not in jpeg:  # which may say how to turn it, behind any other header
        try:
            if simplejpeg.decode_jpeg(jpeg, buffer=out).shape == out.shape:
                return out
        except ValueError:
            pass
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR if _RGB is None else _RGB) if jpeg else None
    if image is None:
        raise AloeError(f"{what}: a frame is not a JPEG.")
    if image.shape[:2] != size:
        raise AloeError(f"{what}: frames of {image.shape[1]}x{image.shape[0]}: expected {size[1]}x{size[0]}.")
    out[:] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if _RGB is None else image
    return out


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
        images = np.empty((len(used), *size, 3), np.uint8)
        for image, i in zip(images, used.tolist(), strict=True):
            decode(recorded.jpegs[i], what, size, image)
        frames[camera.name] = (used, images)
    return frames


class FrameCache:
    """Decoded frames by number. Frame n has its place at n modulo the capacity and keeps it until another comes there.

    Batches are drawn at random, so that any frame is as likely to be asked for next: to know which was used last
    would gain nothing, and to note where each frame is would take memory for every frame there is.
    """

    def __init__(self, size: tuple[int, int], budget: int, load: Callable[[int, np.ndarray], object]) -> None:
        """Frames are uint8 [H, W, 3] with (H, W) = `size`; `load` writes one to an array, from several threads."""
        self._size, self._load = size, load
        self._capacity = max(1, budget // (size[0] * size[1] * 3))
        # uint8 [capacity, H, W, 3]; its pages count only once they are written. NumPy copies it: OpenMP threads that
        # wait for each other on a busy machine cost twenty times what they gain.
        self._kept = np.empty((self._capacity, *size, 3), np.uint8)
        self._owner = np.full(self._capacity, -1, np.int64)  # frame in each place
        self._threads = max(1, min(8, os.cpu_count() or 1))
        self._pool: ThreadPoolExecutor | None = None

    @property
    def capacity(self) -> int:
        """Frames that fit."""
        return self._capacity

    @property
    def kept(self) -> int:
        return int((self._owner >= 0).sum())

    @property
    def bytes(self) -> int:
        """Memory the kept frames take."""
        return self.kept * self._size[0] * self._size[1] * 3

    def put(self, numbers: np.ndarray, images: np.ndarray) -> None:
        """Keep decoded frames, uint8 [n, H, W, 3], unless their places are taken by others."""
        free = self._owner[numbers % self._capacity] < 0
        self._keep(numbers[free], images, np.flatnonzero(free))

    def get(self, numbers: np.ndarray) -> Tensor:
        """Return frames uint8 [n, H, W, 3]; AloeError if one cannot be decoded."""
        places = numbers % self._capacity
        missing = self._owner[places] != numbers
        if not missing.any():
            return torch.from_numpy(self._kept[places])
        out = np.empty((len(numbers), *self._size, 3), np.uint8)
        found = np.flatnonzero(~missing)
        _copy(self._kept, places[found], out, found)
        wanted, first, index = np.unique(numbers[missing], return_index=True, return_inverse=True)
        at = np.flatnonzero(missing)
        self._decode(wanted, out, at[first])
        again = np.setdiff1d(np.arange(len(at)), first)
        _copy(out, at[first][index.reshape(-1)[again]], out, at[again])
        self._keep(wanted, out, at[first])
        return torch.from_numpy(out)

    def _keep(self, numbers: np.ndarray, images: np.ndarray, rows: np.ndarray) -> None:
        """Keep these frames, which are these rows of `images`."""
        places, last = np.unique((numbers % self._capacity)[::-1], return_index=True)
        chosen = len(numbers) - 1 - last  # one for each place
        _copy(images, rows[chosen], self._kept, places)
        self._owner[places] = numbers[chosen]

    def _decode(self, numbers: np.ndarray, out: np.ndarray, rows: np.ndarray) -> None:
        pairs = list(zip(numbers.tolist(), rows.tolist(), strict=True))

        def fill(part: int) -> None:
            for number, row in pairs[part :: self._threads]:
                self._load(number, out[row])

        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        for _ in self._pool.map(fill, range(self._threads)):
            pass


def _copy(source: np.ndarray, of: np.ndarray, target: np.ndarray, to: np.ndarray) -> None:
    """target[to] = source[of] without the array in between: its fresh pages cost more than the copy."""
    for one, other in zip(of.tolist(), to.tolist(), strict=True):
        target[other] = source[one]

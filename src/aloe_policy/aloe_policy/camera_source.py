"""Cameras and recordings read through OpenCV, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from aloe_core.contract import Camera
from aloe_core.errors import AloeError
from aloe_policy.urls import shown

STREAMS = ("rtsp", "rtsps", "http", "https")
SOURCES = "topic, v4l2:<index or path>, file:<video or image folder>, rtsp://… or http(s)://…"
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
_OPENING, _SILENCE = 5000, 3000  # ms without an answer, without a frame, after which a stream is given up
_LONGEST_WAIT = 5.0  # s between attempts to reconnect

OnFrame = Callable[[int, np.ndarray], None]  # stamp (ns), uint8 [height, width, 3] BGR


class Device(Protocol):
    """Something that gives frames until it cannot."""

    def read(self) -> tuple[int, np.ndarray] | None:
        """Return (stamp, BGR), None when it is lost or at its end."""
        ...

    def close(self) -> None: ...


def parse_source(text: str) -> tuple[str, str]:
    """Return (kind, argument) of `topic`, `v4l2:<index|path>`, `file:<video or image folder>` or a stream's URL.

    AloeError if it is none of these.
    """
    kind, _, argument = text.partition(":")
    if kind == "topic" and not argument:
        return kind, ""
    if kind in ("v4l2", "file") and argument and not argument.startswith("//"):
        return kind, argument
    if kind in STREAMS and argument.startswith("//") and argument != "//":
        return "stream", text
    raise AloeError(f"Camera source {shown(text)!r}: expected {SOURCES}.")


def acquisition_stamp(now: int, monotonic: int, buffer_ms: float) -> int:
    """Return when a frame was taken, ns of ROS time.

    V4L2 stamps its buffers with the monotonic clock (ms); `now` and `monotonic` (ns) were read together. A driver
    that gives no usable stamp, or one over a second old, is taken to have delivered the frame just now.
    """
    age = monotonic - round(buffer_ms * 1e6)
    return now - age if buffer_ms > 0 and 0 <= age < 1_000_000_000 else now


class V4l2Device:
    """A camera; frames are stamped by the driver where it does so."""

    def __init__(self, argument: str, camera: Camera, now: Callable[[], int]) -> None:
        self._now = now
        self._capture = cv2.VideoCapture(int(argument) if argument.isdigit() else argument, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise AloeError(f"Camera {camera.name}: v4l2:{argument} cannot be opened; is it plugged in and free?")
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, camera.width)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, camera.height)
        self._capture.set(cv2.CAP_PROP_FPS, camera.rate_hz)
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def read(self) -> tuple[int, np.ndarray] | None:
        if not self._capture.grab():
            return None
        stamp = acquisition_stamp(self._now(), time.monotonic_ns(), self._capture.get(cv2.CAP_PROP_POS_MSEC))
        done, bgr = self._capture.retrieve()
        return (stamp, bgr) if done else None

    def close(self) -> None:
        self._capture.release()


class StreamDevice:
    """A network camera (RTSP over TCP, or MJPEG over HTTP) through OpenCV's FFmpeg.

    These carry no time of exposure that OpenCV would hand out: a frame is stamped on arrival, less `latency` (s).
    """

    def __init__(self, url: str, camera: Camera, now: Callable[[], int], latency: float = 0.0) -> None:
        self._now, self._latency = now, round(latency * 1e9)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPENING, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _SILENCE]
        self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            raise AloeError(f"Camera {camera.name}: {shown(url)} cannot be opened; is it there, and a video stream?")

    def read(self) -> tuple[int, np.ndarray] | None:
        if not self._capture.grab():
            return None
        stamp = self._now() - self._latency
        done, bgr = self._capture.retrieve()
        return (stamp, bgr) if done else None

    def close(self) -> None:
        self._capture.release()


class Recording:
    """A video file or a folder of images (in name order), played at the camera's rate, again and again."""

    def __init__(self, argument: str, camera: Camera, now: Callable[[], int], stop: threading.Event) -> None:
        self._now, self._stop = now, stop
        self._period = 1.0 / camera.rate_hz
        self._next = time.monotonic()
        path = Path(argument)
        self._images = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else []
        self._index = 0
        self._capture = None if path.is_dir() else cv2.VideoCapture(str(path))
        opened = bool(self._images) if self._capture is None else self._capture.isOpened()
        if not opened:
            raise AloeError(f"Camera {camera.name}: file:{argument} holds no video or images that can be read.")

    def read(self) -> tuple[int, np.ndarray] | None:
        self._stop.wait(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next + self._period, time.monotonic() - self._period)
        bgr = self._image() if self._capture is None else self._video_frame()
        return None if bgr is None else (self._now(), bgr)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()

    def _image(self) -> np.ndarray | None:
        path = self._images[self._index % len(self._images)]
        self._index += 1
        return cv2.imread(str(path), cv2.IMREAD_COLOR)

    def _video_frame(self) -> np.ndarray | None:
        assert self._capture is not None
        done, bgr = self._capture.read()
        if not done:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            done, bgr = self._capture.read()
        return bgr if done else None


@dataclass(frozen=True)
class SourceStatus:
    """Whether frames flow; `problem` says why not."""

    problem: str | None
    reconnects: int


class CameraThread:
    """Reads one device for ever: opens it, hands frames to `on_frame`, and reconnects when it is lost.

    `open_device(stop)` opens it or raises AloeError; `on_frame` may raise AloeError for a frame it refuses.
    Anything else ends the thread and is handed to `crashed`.
    """

    def __init__(
        self,
        name: str,
        open_device: Callable[[threading.Event], Device],
        on_frame: OnFrame,
        crashed: Callable[[Exception], None],
    ) -> None:
        self._open, self._on_frame, self._crashed = open_device, on_frame, crashed
        self._stop = threading.Event()
        self.status = SourceStatus("not opened yet", 0)
        self._thread = threading.Thread(target=self._guarded, name=f"camera-{name}", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        self._stop.set()
        self._thread.join(timeout)

    def _guarded(self) -> None:
        try:
            self._loop()
        except Exception as error:  # noqa: BLE001  not ours to judge: the owner gets it
            self._crashed(error)

    def _loop(self) -> None:
        wait, connects = 0.25, 0
        while not self._stop.is_set():
            try:
                device = self._open(self._stop)
                connects += 1
            except AloeError as error:
                self.status = SourceStatus(str(error), max(0, connects - 1))
            else:
                if self._drain(device, connects - 1):
                    wait = 0.25
            self._stop.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _drain(self, device: Device, reconnects: int) -> bool:
        """Deliver frames until the device is lost; returns whether there was any."""
        any_frame = False
        try:
            while not self._stop.is_set():
                frame = device.read()
                if frame is None:
                    self.status = SourceStatus("connection lost", reconnects)
                    break
                any_frame = True
                try:
                    self._on_frame(*frame)
                    self.status = SourceStatus(None, reconnects)
                except AloeError as error:
                    self.status = SourceStatus(str(error), reconnects)
        finally:
            device.close()
        return any_frame

"""Network cameras: real servers that die and come back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from aloe_core.contract import Camera
from aloe_core.errors import AloeError
from aloe_policy.camera_source import CameraThread, StreamDevice, parse_source
from aloe_policy.urls import shown

CAMERA = Camera(name="top", topic="cameras/top", width=64, height=48, rate_hz=20, frame_id="top_optical")
PATIENCE = 60.0  # s


class Stream:
    """A stream server process."""

    def __init__(self, kind: str, jpeg: Path, port: int = 0) -> None:
        script = Path(__file__).with_name("stream_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), kind, str(port), str(jpeg)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def jpeg(tmp_path):
    image = np.full((48, 64, 3), (200, 60, 20), np.uint8)
    path = tmp_path / "frame.jpg"
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420])
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_a_stream_flows_and_is_opened_again_when_its_server_is_back(kind, jpeg):
    server = Stream(kind, jpeg)
    frames, errors, arrived = [], [], threading.Event()

    def on_frame(stamp, bgr):
        frames.append((stamp, bgr))
        arrived.set()

    url = parse_source(f"{kind}://127.0.0.1:{server.port}/stream")[1]
    thread = CameraThread("top", lambda stop: StreamDevice(url, CAMERA, time.time_ns, 0.1), on_frame, errors.append)
    try:
        wait_for(lambda: len(frames) > 5, arrived)
        stamp, bgr = frames[-1]
        assert bgr.shape == (48, 64, 3) and bgr.mean(axis=(0, 1)) == pytest.approx([200, 60, 20], abs=6)
        assert time.time_ns() - stamp >= 100_000_000, "the known latency is taken off"
        server.kill()
        wait_for(lambda: thread.status.problem, arrived)
        count = len(frames)
        server = Stream(kind, jpeg, server.port)
        wait_for(lambda: len(frames) > count + 5, arrived)
        assert thread.status.problem is None and thread.status.reconnects >= 1
        assert [a for a, _ in frames] == sorted(a for a, _ in frames)
        assert errors == []
    finally:
        thread.close()
        server.kill()


def wait_for(condition, changed):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        changed.wait(0.1)
        changed.clear()


def test_a_stream_that_is_not_there_is_one_sentence_without_its_password():
    url = "rtsp://admin:secret@127.0.0.1:1/stream"
    with pytest.raises(AloeError, match=r"Camera top: rtsp://127.0.0.1:1/stream cannot be opened"):
        StreamDevice(url, CAMERA, time.time_ns)
    assert shown(url) == "rtsp://127.0.0.1:1/stream"

"""All cameras of the contract as JPEG, from raw topics, V4L2 devices, network streams or recordings."""

from __future__ import annotations

import sys
import threading
from array import array
from collections.abc import Callable
from functools import partial

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from aloe_core.contract import Camera
from aloe_core.errors import AloeError
from aloe_policy.camera_calibration import Calibration, load_calibration
from aloe_policy.camera_source import (
    SOURCES,
    CameraThread,
    Device,
    Recording,
    StreamDevice,
    V4l2Device,
    parse_source,
)
from aloe_policy.camera_stats import CameraStats
from aloe_policy.image_bridge import JPEG_FORMAT, JPEG_QUALITY, encode_jpeg, fit, to_bgr
from aloe_ros import diagnostics, qos, stamps
from aloe_ros.node import AloeLifecycleNode, run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep

_INFO_PERIOD = 1_000_000_000  # ns of ROS time between camera_info messages; they are latched


class CameraChannel:
    """One camera: takes BGR frames from whatever thread has them and publishes JPEG and camera_info."""

    def __init__(self, node: CameraNode, camera: Camera, fit_how: str, calibration: Calibration, quality: int) -> None:
        self.camera = camera
        self.stats = CameraStats(camera.rate_hz)
        self.problem: str | None = None
        self._fit, self._quality = fit_how, quality
        self._lock = threading.Lock()
        self._images = node.create_publisher(CompressedImage, f"{camera.topic}/image_raw/compressed", qos.IMAGE)
        self._infos = node.create_publisher(CameraInfo, f"{camera.topic}/camera_info", qos.LATCHED)
        self._info = CameraInfo(
            height=camera.height,
            width=camera.width,
            distortion_model=calibration.model,
            d=calibration.d,
            k=calibration.k,
            r=calibration.r,
            p=calibration.p,
        )
        self._info.header.frame_id = camera.frame_id
        self._info_stamp: int | None = None

    def publish(self, stamp: int, bgr: np.ndarray) -> None:
        """Publish a frame taken at `stamp` (ns); AloeError if it has another size than the contract says."""
        bgr = fit(bgr, self.camera.width, self.camera.height, self._fit)
        jpeg = encode_jpeg(bgr, self._quality)
        msg = CompressedImage(format=JPEG_FORMAT, data=array("B", jpeg))
        msg.header.frame_id = self.camera.frame_id
        stamps.fill(msg.header.stamp, stamp)
        self._images.publish(msg)
        with self._lock:
            self.stats.add(stamp, jpeg)
            self.problem = None
        if self._info_stamp is None or not 0 <= stamp - self._info_stamp < _INFO_PERIOD:
            self._info_stamp = stamp
            stamps.fill(self._info.header.stamp, stamp)
            self._infos.publish(self._info)

    def report(
        self, now: int, stale_after: float, frozen_after: float, source_problem: str | None
    ) -> tuple[bytes, str | None, dict]:
        """Return (level, what is wrong, values) for the diagnostics."""
        with self._lock:
            age, rate, frozen = self.stats.age(now), self.stats.rate, self.stats.frozen
            values = {
                f"{self.camera.name}.frames": self.stats.frames,
                f"{self.camera.name}.rate_hz": f"{rate:.1f}",
                f"{self.camera.name}.dropped": self.stats.dropped,
                f"{self.camera.name}.max_gap_s": f"{self.stats.max_gap:.3f}",
            }
        problem = source_problem or self.problem
        if problem:
            return diagnostics.ERROR, f"{self.camera.name}: {problem}", values
        if age is None:
            return diagnostics.WARN, f"{self.camera.name}: no frame yet", values
        if age > stale_after:
            return diagnostics.ERROR, f"{self.camera.name}: newest frame is {age:.2f} s old", values
        if 0 < frozen_after < frozen:
            return diagnostics.WARN, f"{self.camera.name}: the same picture for {frozen:.1f} s, is it frozen?", values
        if 0 < rate < 0.8 * self.camera.rate_hz:
            expected = self.camera.rate_hz
            return diagnostics.WARN, f"{self.camera.name}: {rate:.1f} Hz, expected {expected:g} Hz", values
        return diagnostics.OK, None, values


class CameraNode(AloeLifecycleNode):
    """Serves every camera of the contract; see the parameters for where each one comes from."""

    def __init__(self) -> None:
        super().__init__("camera_node")
        self.contract = declare_contract(self)
        self._lockstep = declare_lockstep(self)
        quality = declare(self, "jpeg_quality", JPEG_QUALITY, "JPEG quality.", low=1, high=100)
        self._frozen_after = declare(
            self,
            "frozen_after",
            1.0,
            "Seconds of pictures that are the same bit for bit before a camera is reported as frozen; 0: never.",
            low=0.0,
            high=3600.0,
        )
        self._sources: dict[str, tuple[str, str]] = {}
        self._channels: dict[str, CameraChannel] = {}
        self._latency: dict[str, float] = {}
        for camera in self.contract.cameras:
            name = camera.name
            source = declare(self, f"source.{name}", "topic", f"{SOURCES}.")
            self._latency[name] = declare(
                self,
                f"latency.{name}",
                0.0,
                "Of a network stream: s from exposure to arrival, taken off its stamps.",
                low=0.0,
                high=5.0,
            )
            fit_how = declare(
                self, f"fit.{name}", "exact", "Frames of another size.", choices=["exact", "resize", "crop"]
            )
            path = declare(self, f"calibration.{name}", "", "Calibration YAML; empty = not calibrated (K is zero).")
            calibration = load_calibration(path, camera) if path else Calibration()
            self._sources[name] = parse_source(source)
            self._channels[name] = CameraChannel(self, camera, fit_how, calibration, quality)
        self._threads: dict[str, CameraThread] = {}
        self._raw: list = []
        self._crash: Exception | None = None
        self._diagnostics = diagnostics.Diagnostics(self, self._report)

    def activate(self) -> None:
        for camera in self.contract.cameras:
            kind, argument = self._sources[camera.name]
            channel = self._channels[camera.name]
            if kind == "topic":
                profile = qos.image_subscription(self._lockstep)
                callback = partial(self._on_raw, channel)
                self._raw.append(self.create_subscription(Image, f"{camera.topic}/image_raw", callback, profile))
            else:
                opener = self._opener(kind, argument, camera)
                self._threads[camera.name] = CameraThread(camera.name, opener, channel.publish, self._crashed)

    def deactivate(self) -> None:
        for subscription in self._raw:
            self.destroy_subscription(subscription)
        self._raw.clear()
        self.close()

    def cleanup(self) -> None:
        self.deactivate()

    def close(self) -> None:
        """Stop the camera threads."""
        for thread in self._threads.values():
            thread.close()
        self._threads.clear()

    def _on_raw(self, channel: CameraChannel, msg: Image) -> None:
        try:
            channel.publish(stamps.to_ns(msg.header.stamp), to_bgr(msg))
        except AloeError as error:
            if channel.problem is None:
                self.get_logger().error(f"Camera {channel.camera.name}: {error}")
            channel.problem = str(error)

    def _opener(self, kind: str, argument: str, camera: Camera) -> Callable[[threading.Event], Device]:
        if kind == "v4l2":
            return lambda stop: V4l2Device(argument, camera, self._now)
        if kind == "stream":
            return lambda stop: StreamDevice(argument, camera, self._now, self._latency[camera.name])
        return lambda stop: Recording(argument, camera, self._now, stop)

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _crashed(self, error: Exception) -> None:
        """A camera thread ended by a defect: the next report ends the node with it."""
        self._crash = error

    def _report(self) -> diagnostics.Report:
        if self._crash is not None:
            raise self._crash
        level, problems, values = diagnostics.OK, [], {}
        for name, channel in self._channels.items():
            thread = self._threads.get(name)
            source_problem = thread.status.problem if thread is not None else None
            one, problem, more = channel.report(
                self._now(), self.contract.staleness.camera, self._frozen_after, source_problem
            )
            values |= more
            if thread is not None:
                values[f"{name}.reconnects"] = thread.status.reconnects
            if problem:
                problems.append(problem)
            level = max(level, one)
        return level, "; ".join(problems) or "all cameras flow", values


def main() -> None:
    sys.exit(run(CameraNode, close=CameraNode.close))


if __name__ == "__main__":
    main()

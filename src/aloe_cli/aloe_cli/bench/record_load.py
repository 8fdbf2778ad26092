"""A robot's streams at full rate, as processes of their own: what `./aloe bench record` has recorded.

    python -m aloe_cli.bench.record_load CONTRACT {camera|robot} SECONDS

It prints `ready` once a reader has matched every publisher, begins with a line on its standard input, and prints what
it has sent as JSON.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rclpy
from aloe_msgs.msg import ExecutedStep
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, JointState

from aloe_core.contract import RobotContract, load_contract
from aloe_ros import qos

EPISODE = "BENCH"
_FRAMES = 8  # different pictures a camera repeats
_stamp = struct.Struct("<iI")  # of a CDR message that begins with a header, 4 bytes in


class Stream:
    """One topic: publishes a few serialised messages over and over, each with the stamp of its sending."""

    def __init__(self, publisher: Publisher, rate_hz: float, messages: list[bytes]) -> None:
        self.publisher = publisher
        self.period = 1.0 / rate_hz
        self.sent = 0
        self._messages = [bytearray(message) for message in messages]

    def send(self) -> None:
        message = self._messages[self.sent % len(self._messages)]
        _stamp.pack_into(message, 4, *divmod(time.time_ns(), 1_000_000_000))
        self.publisher.publish(bytes(message))
        self.sent += 1


def picture(seed: int, height: int, width: int) -> bytes:
    """Return a JPEG of quality 90 with the detail of a camera's: edges, texture and sensor noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 220, (9, 12, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    image += rng.normal(0, 4, image.shape).astype(np.int16)
    for _ in range(12):
        corner = rng.integers(0, (width, height))
        end = corner + rng.integers(20, 120, 2)
        cv2.rectangle(image, tuple(map(int, corner)), tuple(map(int, end)), tuple(map(int, rng.integers(0, 255, 3))), 2)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())


def camera_streams(node: Node, contract: RobotContract) -> list[Stream]:
    """Return a stream of JPEG frames for every camera of the contract."""
    streams = []
    for number, camera in enumerate(contract.cameras):
        frames = [
            serialize_message(
                CompressedImage(
                    format="rgb8; jpeg compressed bgr8", data=picture(97 * number + k, camera.height, camera.width)
                )
            )
            for k in range(_FRAMES)
        ]
        publisher = node.create_publisher(CompressedImage, f"{camera.topic}/image_raw/compressed", qos.IMAGE)
        streams.append(Stream(publisher, camera.rate_hz, frames))
    return streams


def robot_streams(node: Node, contract: RobotContract) -> list[Stream]:
    """Return joint states and executed steps at the control rate."""
    zeros = [0.0] * contract.action_dim
    state = JointState(name=contract.joint_names, position=zeros, velocity=zeros, effort=zeros)
    step = ExecutedStep(
        episode_id=EPISODE,
        joint_names=contract.joint_names,
        requested=zeros,
        executed=zeros,
        source=ExecutedStep.SOURCE_POLICY,
        policy_version="bench",
    )
    rate = contract.control.rate_hz
    states = node.create_publisher(JointState, contract.control.joint_states_topic, qos.JOINT_STATES)
    steps = node.create_publisher(ExecutedStep, "control/executed", qos.COMMAND)
    return [Stream(states, rate, [serialize_message(state)]), Stream(steps, rate, [serialize_message(step)])]


def drive(streams: list[Stream], seconds: float, wait: Callable[[float], object]) -> None:
    """Send every stream at its rate for `seconds`; one that was late catches up, so that the count is exact."""
    start = time.monotonic()
    counts = [round(seconds / stream.period) for stream in streams]
    while True:
        left = [(start + s.sent * s.period, s) for s, count in zip(streams, counts, strict=True) if s.sent < count]
        if not left:
            return
        due, stream = min(left, key=lambda item: item[0])
        delay = due - time.monotonic()
        if delay > 0:
            wait(delay)
        stream.send()


def main() -> int:
    contract, kind, seconds = load_contract(Path(sys.argv[1])), sys.argv[2], float(sys.argv[3])
    rclpy.init()
    node = rclpy.create_node(f"bench_{kind}")
    streams = (camera_streams if kind == "camera" else robot_streams)(node, contract)
    pace = threading.Event()  # never set: a clock that can be waited on
    while not all(stream.publisher.get_subscription_count() for stream in streams):
        pace.wait(0.02)
    print("ready", flush=True)
    sys.stdin.readline()
    drive(streams, seconds, pace.wait)
    print(json.dumps({stream.publisher.topic_name: stream.sent for stream in streams}), flush=True)
    sys.stdin.readline()  # the recorder may still be taking what was sent last
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())

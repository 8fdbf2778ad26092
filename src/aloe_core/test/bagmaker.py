"""Synthetic episodes written as bags, without ROS: `rosbags` serialises the messages and hashes the types."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from aloe_core.contract import RobotContract, load_contract
from aloe_core.episode.data import Outcome
from aloe_core.episode.labels import EpisodeLabels
from aloe_core.episode.message_types import MessageType
from aloe_core.episode.metadata import Qos
from aloe_core.episode.writer import EpisodeWriter

ROOT = Path(__file__).parents[3]
DT = 20_000_000  # ns
EPISODE = "01JE0000000000000000000000"
EXECUTED = "aloe_msgs/msg/ExecutedStep"
JOINTS = "sensor_msgs/msg/JointState"
IMAGE = "sensor_msgs/msg/CompressedImage"


@lru_cache
def contract() -> RobotContract:
    return load_contract(ROOT / "config/robots/aloha_sim.yaml")


@lru_cache
def store() -> Typestore:
    typestore = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted((ROOT / "src/aloe_msgs/msg").glob("*.msg")):
        typestore.register(get_types_from_msg(path.read_text(), f"aloe_msgs/msg/{path.stem}"))
    return typestore


@lru_cache
def message_type(name: str) -> MessageType:
    schema, _ = store().generate_msgdef(name, ros_version=2)
    return MessageType(name, schema, store().hash_rihs01(name))


def header(stamp: int) -> Any:
    types = store().types
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return types["std_msgs/msg/Header"](stamp=time, frame_id="")


def cdr(type_name: str, **fields: Any) -> bytes:
    return bytes(store().serialize_cdr(store().types[type_name](**fields), type_name))


def joint_state(stamp: int, positions: Sequence[float], names: Sequence[str] | None = None) -> bytes:
    nothing = np.zeros(0)
    names = list(names or contract().joint_names)
    return cdr(
        JOINTS,
        header=header(stamp),
        name=names,
        position=np.asarray(positions, float),
        velocity=nothing,
        effort=nothing,
    )


def executed_step(
    stamp: int,
    tick: int,
    executed: Sequence[float],
    *,
    source: int = 1,
    chunk_id: str = "",
    chunk_index: int = -1,
    requested: Sequence[float] | None = None,
    episode_id: str = EPISODE,
    group_sources: Sequence[int] | None = None,
) -> bytes:
    groups = list(contract().groups)
    return cdr(
        EXECUTED,
        header=header(stamp),
        tick=tick,
        episode_id=episode_id,
        joint_names=contract().joint_names,
        requested=np.asarray(executed if requested is None else requested, np.float32),
        executed=np.asarray(executed, np.float32),
        source=source,
        groups=groups,
        group_sources=np.array([source] * len(groups) if group_sources is None else group_sources, np.uint8),
        chunk_id=chunk_id,
        chunk_index=chunk_index,
        policy_version="v1" if chunk_id else "",
        clamp_reasons=0,
    )


def image(stamp: int, jpeg: bytes) -> bytes:
    fields = {"format": "rgb8; jpeg compressed bgr8", "data": np.frombuffer(jpeg, np.uint8)}
    return cdr(IMAGE, header=header(stamp), **fields)


def jpeg(camera: int, frame: int, size: int = 1500) -> bytes:
    """Return bytes that compress as badly as a JPEG and say which frame they are."""
    noise = np.random.default_rng(1000 * camera + frame).bytes(size)
    return b"\xff\xd8" + bytes([camera, frame % 256]) + noise


def labels(**changes: Any) -> EpisodeLabels:
    robot = contract()
    known: dict[str, Any] = {
        "episode_id": EPISODE,
        "task": "sorting",
        "instruction": "put the red block into the left bin",
        "seed": 7,
        "contract": robot.name,
        "contract_hash": robot.hash,
        "outcome": Outcome.SUCCESS,
        "end": "terminated",
    }
    return EpisodeLabels(**{**known, **changes})


class Take:
    """A take being written: `tick` by `tick`, then `close`."""

    def __init__(self, folder: Path, name: str = "take", *, namespace: str = "/", **writer: Any) -> None:
        self.writer = EpisodeWriter(folder, name, labels(outcome=Outcome.NONE, end="aborted"), **writer)
        self._joints = self._topic(namespace + "joint_states", JOINTS, Qos())
        self._executed = self._topic(namespace + "control/executed", EXECUTED, Qos(depth=50))
        self._images = [
            self._topic(f"{namespace}{camera.topic}/image_raw/compressed", IMAGE, Qos(depth=2))
            for camera in contract().cameras
        ]

    def _topic(self, name: str, type_name: str, qos: Qos) -> int:
        return self.writer.add_topic(name, message_type(type_name), [qos])

    def put(self, channel: int, data: bytes, stamp: int) -> None:
        self.writer.write(channel, data, stamp, stamp)

    def state(self, k: int) -> None:
        """Joint state k, and the frames due with it; every joint is at k / 1000."""
        stamp = (k + 1) * DT
        if k % 5 == 0:
            for camera, channel in enumerate(self._images):
                self.put(channel, image(stamp, jpeg(camera, k // 5)), stamp)
        self.joints_only(k)

    def joints_only(self, k: int) -> None:
        """Joint state k without the frames due with it."""
        stamp = (k + 1) * DT
        self.put(self._joints, joint_state(stamp, [k / 1000] * contract().action_dim), stamp)

    def step(self, k: int, **fields: Any) -> None:
        """Executed step k, answering joint state k; every joint is sent to k / 100."""
        stamp = (k + 1) * DT
        self.put(
            self._executed,
            executed_step(stamp, fields.pop("tick", k), [k / 100] * contract().action_dim, **fields),
            stamp,
        )

    def run(self, steps: int, **fields: Any) -> None:
        """`steps` whole ticks and the joint state after the last."""
        for k in range(steps):
            self.state(k)
            self.step(k, **fields)
        self.state(steps)


def take(folder: Path, name: str = "take", steps: int = 20, **changes: Any) -> Path:
    """Write a labelled episode and return its bag directory."""
    writing = Take(folder, name)
    writing.run(steps)
    return writing.writer.close(labels(steps=steps, **changes))

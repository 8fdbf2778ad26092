"""Bags as the recorder writes them, of an episode that never took place: something to measure readers on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from aloe_core.contract import RobotContract
from aloe_core.episode.data import Outcome, Source
from aloe_core.episode.labels import EpisodeLabels
from aloe_core.episode.message_types import find_message_type, ros_prefixes
from aloe_core.episode.metadata import Qos
from aloe_core.episode.names import bag_name, new_ulid
from aloe_core.episode.reader import EXECUTED_TOPIC, EXECUTED_TYPE, IMAGE_TYPE, JOINT_STATE_TYPE
from aloe_core.episode.writer import EpisodeWriter

NAMESPACE = "/"


class Messages:
    """Serialises the three message types that an episode is made of."""

    def __init__(self) -> None:
        self.types = {
            name: find_message_type(name, ros_prefixes()) for name in (EXECUTED_TYPE, JOINT_STATE_TYPE, IMAGE_TYPE)
        }
        self._store = get_typestore(Stores.EMPTY)
        for name, kind in self.types.items():
            self._store.register(get_types_from_msg(kind.schema, name))

    def __call__(self, type_name: str, stamp: int, **fields: Any) -> bytes:
        """Return CDR with a header of this stamp (ns)."""
        types = self._store.types
        time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
        header = types["std_msgs/msg/Header"](stamp=time, frame_id="")
        return bytes(self._store.serialize_cdr(types[type_name](header=header, **fields), type_name))


def write_bag(folder: Path, contract: RobotContract, messages: Messages, *, seconds: float, seed: int) -> Path:
    """Write one bag of `seconds` and return its directory: half rollout, half takeover; odd seeds fail."""
    rng = np.random.default_rng(seed)
    steps = round(seconds / contract.dt)
    period = round(contract.dt * 1e9)
    state = rng.uniform(-0.3, 0.3, (steps + 1, contract.action_dim)).cumsum(0) * 0.01
    labels = EpisodeLabels(
        episode_id=new_ulid(),
        task="synthetic",
        instruction="sort the red block into the left bin",
        seed=seed,
        contract=contract.name,
        contract_hash=contract.hash,
        outcome=Outcome.FAILURE if seed % 2 else Outcome.SUCCESS,
        end="terminated",
        steps=steps,
    )
    writer = EpisodeWriter(folder, bag_name(labels.episode_id, labels.task), labels, sync_period=1e9)

    def topic(name: str, kind: str) -> int:
        return writer.add_topic(name if name.startswith("/") else NAMESPACE + name, messages.types[kind], [Qos()])

    executed = topic(EXECUTED_TOPIC, EXECUTED_TYPE)
    joints = topic(contract.control.joint_states_topic, JOINT_STATE_TYPE)
    cameras = [topic(f"{camera.topic}/image_raw/compressed", IMAGE_TYPE) for camera in contract.cameras]
    for k in range(steps + 1):
        stamp = (k + 1) * period
        for camera, channel in zip(contract.cameras, cameras, strict=True):
            if k % round(1 / (camera.rate_hz * contract.dt)) == 0:
                image = np.frombuffer(picture(rng, camera.height, camera.width), np.uint8)
                writer.write(channel, messages(IMAGE_TYPE, stamp, format="jpeg", data=image), stamp, stamp)
        nothing = np.zeros(0)
        joint_state = messages(
            JOINT_STATE_TYPE, stamp, name=contract.joint_names, position=state[k], velocity=nothing, effort=nothing
        )
        writer.write(joints, joint_state, stamp, stamp)
        if k == steps:
            break
        policy = k < steps // 2
        step = messages(
            EXECUTED_TYPE,
            stamp,
            tick=k,
            episode_id=labels.episode_id,
            joint_names=contract.joint_names,
            requested=state[k + 1].astype(np.float32),
            executed=state[k + 1].astype(np.float32),
            source=int(Source.POLICY if policy else Source.HUMAN),
            groups=list(contract.groups),
            group_sources=np.full(len(contract.groups), Source.POLICY if policy else Source.HUMAN, np.uint8),
            chunk_id=f"v1/{k // contract.chunk.execute}" if policy else "",
            chunk_index=k % contract.chunk.execute if policy else -1,
            policy_version="v1" if policy else "",
            clamp_reasons=0,
        )
        writer.write(executed, step, stamp, stamp)
    return writer.close(labels)


def picture(rng: np.random.Generator, height: int, width: int) -> bytes:
    """Return a JPEG of the size and detail of the station's (2.5 kB at 96x96)."""
    image = cv2.resize(rng.integers(60, 200, (4, 4, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(8):
        corner = rng.integers(0, (width, height))
        end = corner + rng.integers(4, 24, 2)
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        cv2.rectangle(image, tuple(map(int, corner)), tuple(map(int, end)), colour, -1)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())

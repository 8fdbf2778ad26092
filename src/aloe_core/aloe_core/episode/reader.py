"""From a bag to an episode on the control grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.bag import Bag, read_bag
from aloe_core.episode.data import EpisodeData, Frames, Outcome, Source
from aloe_core.episode.decode import Decoder, stamp_ns
from aloe_core.errors import AloeError

EXECUTED_TYPE = "aloe_msgs/msg/ExecutedStep"
JOINT_STATE_TYPE = "sensor_msgs/msg/JointState"
IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
EXECUTED_TOPIC = "control/executed"


def read_episode(bag_dir: str | Path, contract: RobotContract) -> EpisodeData:
    """Read the episode of a bag directory recorded on `contract`'s robot.

    Steps at or after the label stamp, and RESET ticks, are left out. AloeError, one sentence naming the file: damaged,
    foreign or unlabelled bag, another contract, no executed steps, missing camera, joint or joint states.
    """
    return episode_from_bag(read_bag(Path(bag_dir), (EXECUTED_TYPE, JOINT_STATE_TYPE, IMAGE_TYPE)), contract)


def episode_from_bag(bag: Bag, contract: RobotContract) -> EpisodeData:
    """Return the episode of a bag already read; AloeError as in `read_episode`."""
    labels = bag.labels
    if labels.contract_hash != contract.hash:
        raise AloeError(
            f"{bag.directory}: contract_hash = {labels.contract_hash!r}: expected {contract.hash!r}, "
            f"the contract {contract.name} (recorded with {labels.contract or 'an unnamed one'})."
        )
    if labels.outcome == Outcome.NONE and labels.end != "truncated":
        raise AloeError(f"{bag.directory}: unlabelled: expected outcome success, failure or aborted.")
    decode = Decoder(bag.file, bag.schemas.values())
    namespace = find_namespace(bag)
    steps = _cut(_executed_steps(bag, decode, contract, namespace), bag)
    joints = _joint_states(bag, decode, contract, namespace)
    stamps, state, steps = _grid(bag, contract, steps, joints)
    chunk_ids, versions, chunk = _chunks(steps)
    return EpisodeData(
        episode_id=labels.episode_id,
        task=labels.task,
        instruction=labels.instruction,
        seed=labels.seed,
        outcome=labels.outcome,
        end=labels.end,
        contract_hash=labels.contract_hash,
        dt=contract.dt,
        stamps=stamps,
        state=state,
        requested=np.stack([step.requested for step in steps]),
        executed=np.stack([step.executed for step in steps]),
        source=np.array([step.source for step in steps], np.uint8),
        chunk=chunk,
        chunk_index=np.array([step.chunk_index for step in steps], np.int32),
        frames={camera.name: _frames(bag, decode, namespace, camera.name, camera.topic) for camera in contract.cameras},
        chunk_ids=chunk_ids,
        policy_versions=versions,
        breaks=_breaks(steps, stamps, contract),
        group_source=_group_source(steps),
        info={"path": str(bag.directory), "labels": labels},
    )


@dataclass(frozen=True)
class _Step:
    stamp: int
    tick: int
    requested: np.ndarray
    executed: np.ndarray
    source: int
    chunk_id: str
    chunk_index: int
    policy_version: str
    group_source: np.ndarray | None  # uint8 [G]; bags from before per-arm takeover do not say


def find_namespace(bag: Bag) -> str:
    """Return what stands before the relative topic names of the graph; AloeError if this is no ALOE bag."""
    for topic in bag.topics_of(EXECUTED_TYPE):
        if topic.endswith("/" + EXECUTED_TOPIC):
            return topic.removesuffix(EXECUTED_TOPIC)
    raise AloeError(f"{bag.directory}: foreign bag: no topic {EXECUTED_TOPIC} of type {EXECUTED_TYPE}.")


def resolve(namespace: str, topic: str) -> str:
    """Return the absolute name of a topic of the graph."""
    return topic if topic.startswith("/") else namespace + topic


class _Order:
    """Brings vectors into contract order; looks joint names up only when they change."""

    def __init__(self, bag: Bag, contract: RobotContract, what: str, *, finite: bool = True) -> None:
        self._finite = finite
        self._what = f"{bag.file}: {what}"
        self._contract = contract
        self._names: list[str] | None = None
        self._index = np.zeros(0, np.intp)

    def __call__(self, names: list[str], values: Any) -> np.ndarray:
        if names != self._names:
            self._index = np.array(self._contract.order(names, self._what), np.intp)
            self._names = names
        if len(values) != len(names):
            raise AloeError(f"{self._what}: {len(values)} values for {len(names)} joints.")
        ordered = np.asarray(values, np.float32)[self._index]
        if self._finite and not np.isfinite(ordered).all():
            raise AloeError(f"{self._what}: not finite, which no robot can have done.")
        return ordered


def _executed_steps(bag: Bag, decode: Decoder, contract: RobotContract, namespace: str) -> list[_Step]:
    order = _Order(bag, contract, "executed step")
    request_order = _Order(bag, contract, "executed step (requested)", finite=False)
    nothing = np.full(contract.action_dim, np.nan, np.float32)
    steps = []
    for message in bag.messages.get(namespace + EXECUTED_TOPIC, ()):
        step = decode(message.data, EXECUTED_TYPE)
        if step.episode_id != bag.labels.episode_id or step.source == Source.RESET:
            continue
        steps.append(
            _Step(
                stamp=stamp_ns(step.header),
                tick=int(step.tick),
                requested=request_order(step.joint_names, step.requested) if len(step.requested) else nothing,
                executed=order(step.joint_names, step.executed),
                source=int(step.source),
                chunk_id=step.chunk_id,
                chunk_index=int(step.chunk_index),
                policy_version=step.policy_version,
                group_source=_groups_of(step, bag, contract),
            )
        )
    return sorted(steps, key=lambda step: step.tick)


def _groups_of(step: Any, bag: Bag, contract: RobotContract) -> np.ndarray | None:
    if not hasattr(step, "groups"):
        return None
    sources = dict(zip(step.groups, step.group_sources, strict=False))
    missing = [group for group in contract.groups if group not in sources]
    if missing:
        raise AloeError(f"{bag.file}: executed step of tick {step.tick}: no source of joint group {missing[0]!r}.")
    return np.array([sources[group] for group in contract.groups], np.uint8)


def _group_source(steps: list[_Step]) -> np.ndarray | None:
    """Return uint8 [T, G], None if any step does not say."""
    rows = [step.group_source for step in steps if step.group_source is not None]
    return np.stack(rows) if len(rows) == len(steps) else None


def _cut(steps: list[_Step], bag: Bag) -> list[_Step]:
    label = bag.labels.label_stamp
    kept = [step for step in steps if not label or step.stamp < label]
    if not kept:
        raise AloeError(f"{bag.directory}: no executed steps of episode {bag.labels.episode_id!r} before its label.")
    return kept


def _joint_states(bag: Bag, decode: Decoder, contract: RobotContract, namespace: str) -> tuple[np.ndarray, np.ndarray]:
    """Return stamps int64 [N] (ascending) and positions float32 [N, J]."""
    topic = resolve(namespace, contract.control.joint_states_topic)
    order = _Order(bag, contract, "joint state")
    messages = [decode(message.data, JOINT_STATE_TYPE) for message in bag.messages.get(topic, ())]
    if not messages:
        raise AloeError(f"{bag.directory}: no joint states on {topic}.")
    stamps = np.array([stamp_ns(message.header) for message in messages], np.int64)
    positions = np.stack([order(message.name, message.position) for message in messages])
    ascending = np.argsort(stamps, kind="stable")
    return stamps[ascending], positions[ascending]


def _grid(
    bag: Bag, contract: RobotContract, steps: list[_Step], joints: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[_Step]]:
    """Return stamps [T+1], states [T+1, J] and the T steps; the last step goes if nothing was recorded after it."""
    joint_stamps, positions = joints
    stamps = np.array([step.stamp for step in steps], np.int64)
    rows = np.searchsorted(joint_stamps, stamps, side="right") - 1
    age = stamps - joint_stamps[np.maximum(rows, 0)]
    late = np.flatnonzero((rows < 0) | (age > contract.staleness.joint_states * 1e9))
    if len(late):
        raise AloeError(f"{bag.directory}: no joint state for the step of tick {steps[late[0]].tick}.")
    after = int(np.searchsorted(joint_stamps, stamps[-1], side="right"))
    if after == len(joint_stamps):
        if len(steps) == 1:
            raise AloeError(f"{bag.directory}: no joint state after its only step.")
        return stamps, positions[rows], steps[:-1]
    return (
        np.append(stamps, joint_stamps[after]),
        positions[np.append(rows, after)],
        steps,
    )


def _breaks(steps: list[_Step], stamps: np.ndarray, contract: RobotContract) -> tuple[int, ...]:
    """Return the steps not followed by their successor: a tick is missing, or the state came much too late."""
    ticks = np.array([step.tick for step in steps], np.int64)
    late = np.diff(stamps) > max(contract.staleness.joint_states, 2.5 * contract.dt) * 1e9
    late[:-1] |= np.diff(ticks) != 1
    return tuple(np.flatnonzero(late).tolist())


def _chunks(steps: list[_Step]) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    """Return chunk ids in order of use, the policy version of each, and the chunk of each step (-1 for none)."""
    versions: dict[str, str] = {}
    for step in steps:
        if step.chunk_id:
            versions.setdefault(step.chunk_id, step.policy_version)
    number = {chunk_id: i for i, chunk_id in enumerate(versions)}
    chunk = np.array([number.get(step.chunk_id, -1) for step in steps], np.int32)
    return tuple(versions), tuple(versions.values()), chunk


def _frames(bag: Bag, decode: Decoder, namespace: str, name: str, base: str) -> Frames:
    topic = resolve(namespace, base) + "/image_raw/compressed"
    messages = bag.messages.get(topic)
    if not messages:
        raise AloeError(f"{bag.directory}: no frames of camera {name!r} on {topic}.")
    images = [decode(message.data, IMAGE_TYPE) for message in messages]
    images.sort(key=lambda image: stamp_ns(image.header))
    stamps = np.array([stamp_ns(image.header) for image in images], np.int64)
    return Frames(stamps, tuple(image.data.tobytes() for image in images))

"""Scores as a bag beside the recorded one, which is never touched: play or plot both together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from aloe_core.episode.labels import EpisodeLabels, TopicCount
from aloe_core.episode.message_types import find_message_type, ros_prefixes
from aloe_core.episode.metadata import Qos
from aloe_core.episode.writer import EpisodeWriter
from aloe_core.errors import AloeError
from aloe_critic.evaluation.scores import EpisodeScores

VALUE_TYPE = "aloe_msgs/msg/ValueEstimate"
VALUE_TOPIC = "policy/value"  # in the namespace of the graph, as the policy publishes it
SUFFIX = "_values"


class SidecarWriter:
    """Writes one bag of values per episode; needs the installed aloe_msgs definitions."""

    def __init__(self, folder: Path, critic_version: str) -> None:
        """`folder` should not be one of recorded bags: readers of those would stop at a bag without an episode."""
        self._folder, self._version = folder, critic_version
        self._type = find_message_type(VALUE_TYPE, ros_prefixes())
        self._store = get_typestore(Stores.EMPTY)
        self._store.register(get_types_from_msg(self._type.schema, VALUE_TYPE))

    def write(self, scores: EpisodeScores, name: str, namespace: str = "/") -> Path:
        """Write `<folder>/<name>_values`, one message per chunk at the stamp of its first step; returns its path."""
        ep = scores.episode
        topic = namespace + VALUE_TOPIC
        labels = ep.info.get("labels")
        if not isinstance(labels, EpisodeLabels):
            raise AloeError(f"Episode {ep.episode_id}: it was not read from a bag, so there is none to stand beside.")
        writer = EpisodeWriter(self._folder, name + SUFFIX, labels)
        channel = writer.add_topic(topic, self._type, [Qos()])
        for i in range(len(scores.start)):
            stamp = int(ep.stamps[scores.start[i]])
            writer.write(channel, self._message(scores, i, stamp), stamp, stamp, i)
        return writer.close(replace(labels, topics={topic: TopicCount(len(scores.start))}))

    def _message(self, scores: EpisodeScores, i: int, stamp: int) -> bytes:
        types: dict[str, Any] = self._store.types
        ep = scores.episode
        number = int(ep.chunk[scores.start[i]])
        time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
        value = types[VALUE_TYPE](
            header=types["std_msgs/msg/Header"](stamp=time, frame_id=""),
            chunk_id=ep.chunk_ids[number] if number >= 0 else "",  # none where a person drove
            policy_version=ep.policy_versions[number] if number >= 0 else "",
            critic_version=self._version,
            q_min=float(scores.q_pess[i]),
            q_mean=float(scores.q_mean[i]),
            q_std=float(scores.q_std[i]),
            v=float(scores.v[i]),
            advantage=float(scores.advantage[i]),
        )
        return bytes(self._store.serialize_cdr(value, VALUE_TYPE))

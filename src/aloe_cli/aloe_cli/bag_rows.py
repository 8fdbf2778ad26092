"""What `./aloe bag` prints of one bag, as a row of its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aloe_core.contract import RobotContract
from aloe_core.episode.bag import read_labels
from aloe_core.episode.data import Source
from aloe_core.episode.labels import EpisodeLabels
from aloe_core.episode.metadata import read_metadata
from aloe_core.episode.reader import read_episode
from aloe_core.episode.recover import Recovery
from aloe_core.episode.transitions import chunk_transitions


def info_row(bag: Path) -> dict[str, Any]:
    """Return labels and size of a bag, from its metadata alone."""
    labels: EpisodeLabels = read_labels(bag)
    information = read_metadata(bag)
    size = sum(file.stat().st_size for file in bag.iterdir())
    return {
        "path": bag,
        "episode_id": labels.episode_id,
        "task": labels.task,
        "instruction": labels.instruction,
        "seed": labels.seed,
        "outcome": labels.outcome.name.lower(),
        "end": labels.end,
        "reason": labels.reason,
        "contract": labels.contract,
        "contract_hash": labels.contract_hash,
        "policy_versions": labels.policy_versions,
        "seconds": round(information["duration"]["nanoseconds"] * 1e-9, 2),
        "steps": labels.steps,
        "intervention_steps": labels.intervention_steps,
        "messages": information["message_count"],
        "megabytes": round(size / 1e6, 2),
        "quality": labels.quality,
        "dropped": sum(count.dropped for count in labels.topics.values()),
    }


def recovery_row(done: Recovery) -> dict[str, Any]:
    """Return what became of a bag."""
    return {
        "path": done.path,
        "status": done.status.name.lower(),
        "messages": done.messages,
        "lost_messages": done.lost_messages,
        "lost_bytes": done.lost_bytes,
        "detail": done.detail,
    }


def transition_row(bag: Path, robot: RobotContract, horizon: int, stride: int | None) -> dict[str, Any]:
    """Return how many chunk transitions a bag gives, by who drove; AloeError if it cannot be learnt from."""
    episode = read_episode(bag, robot)
    found = chunk_transitions(episode, horizon, max_length=1, failure_cost=1, stride=stride)
    return {
        "path": bag,
        "steps": episode.steps,
        **{source.name.lower(): int((found.source == source).sum()) for source in Source},
        "terminated": int(found.terminated.sum()),
        "truncated": int(found.truncated.sum()),
        "transitions": len(found),
    }

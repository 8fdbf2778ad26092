"""Is this bag what it promises to be?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.bag import Bag, read_bag
from aloe_core.episode.data import EpisodeData, Outcome
from aloe_core.episode.decode import Decoder
from aloe_core.episode.quality import PASSED, Limits, StreamAccount, gap_limit, shortcomings
from aloe_core.episode.reader import episode_from_bag, find_namespace, resolve
from aloe_core.errors import AloeError

EXPECTED = ("control/executed", "control/mode", "task")  # beside joint states, command and cameras


class Level(Enum):
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Problem:
    """One finding; an ERROR means that the bag must not be trusted or cannot be learnt from."""

    level: Level
    text: str


@dataclass(frozen=True)
class Report:
    """What was found in one bag."""

    path: Path
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return all(problem.level is not Level.ERROR for problem in self.problems)


def check_bag(directory: str | Path, contract: RobotContract) -> Report:
    """Check integrity, definitions, topics, rates, gaps, alignment, labels and contract of one bag."""
    path = Path(directory)
    problems: list[Problem] = []
    try:
        bag = read_bag(path, types=None)
        problems += _definitions(bag)
        namespace = find_namespace(bag)
        problems += _topics(bag, contract, namespace)
        problems += _losses(bag)
        episode = episode_from_bag(bag, contract)
        problems += _labels(bag, episode)
        problems += _streams(contract, episode)
        problems += _alignment(contract, episode)
    except AloeError as error:
        problems.append(_error(str(error)))
    return Report(path, tuple(problems))


def _error(text: str) -> Problem:
    return Problem(Level.ERROR, text)


def _warning(text: str) -> Problem:
    return Problem(Level.WARNING, text)


def _definitions(bag: Bag) -> Iterator[Problem]:
    for schema in bag.schemas.values():
        if schema.encoding != "ros2msg":
            yield _error(f"{schema.name} is defined in {schema.encoding!r}: expected ros2msg.")
    decode = Decoder(bag.file, bag.schemas.values())
    for channel in bag.channels.values():
        if channel.encoding != "cdr":
            yield _error(f"{channel.topic} is encoded in {channel.encoding!r}: expected cdr.")
        for key in ("offered_qos_profiles", "topic_type_hash"):
            if not channel.metadata.get(key):
                yield _warning(f"{channel.topic} has no {key}.")
        for message in bag.messages.get(channel.topic, ()):
            decode(message.data, bag.type_of(channel))


def _topics(bag: Bag, contract: RobotContract, namespace: str) -> Iterator[Problem]:
    relative = [contract.control.joint_states_topic, contract.control.command_topic, *EXPECTED]
    for camera in contract.cameras:
        relative += [f"{camera.topic}/image_raw/compressed", f"{camera.topic}/camera_info"]
    for topic in (resolve(namespace, name) for name in relative):
        if not bag.counts.get(topic):
            yield _warning(f"nothing was recorded on {topic}.")


def _losses(bag: Bag) -> Iterator[Problem]:
    for topic, count in bag.labels.topics.items():
        if count.dropped:
            level = Level.ERROR if topic.endswith("control/executed") else Level.WARNING
            yield Problem(level, f"{count.dropped} of {count.received + count.dropped} messages of {topic} were lost.")
        if count.received != bag.counts.get(topic, 0):
            yield _error(f"{topic} has {bag.counts.get(topic, 0)} messages, its label says {count.received}.")


def _labels(bag: Bag, episode: EpisodeData) -> Iterator[Problem]:
    labels = bag.labels
    if labels.outcome is Outcome.ABORTED:
        yield _warning(f"aborted: {labels.reason or 'no reason given'}.")
    if labels.quality not in ("", PASSED):
        yield _error(f"the take failed its quality check: {labels.quality}.")
    if labels.end == "terminated" and labels.outcome not in (Outcome.SUCCESS, Outcome.FAILURE):
        yield _error(f"end is terminated but outcome is {labels.outcome.name.lower()}.")
    if labels.end == "terminated" and not labels.label_stamp:
        yield _error("terminated without a label stamp.")
    if labels.label_stamp and labels.label_stamp > episode.stamps[-1]:
        yield _error("the label stamp lies after the last joint state.")
    if episode.breaks:
        yield _error(f"{len(episode.breaks)} control steps have no successor, the first is step {episode.breaks[0]}.")


def _streams(contract: RobotContract, episode: EpisodeData) -> Iterator[Problem]:
    """Check rate and gaps of the streams with a promised rate, while steps were executed."""
    streams = {
        f"camera {camera.name}": (episode.frames[camera.name].stamps, camera.rate_hz) for camera in contract.cameras
    }
    streams["control"] = (episode.stamps, contract.control.rate_hz)
    begin, end = int(episode.stamps[0]), int(episode.stamps[-1])
    for name, (stamps, rate) in streams.items():
        inside = stamps[(stamps >= begin) & (stamps <= end)]
        around = np.diff(np.concatenate(([begin], inside, [end]))) * 1e-9
        gaps = around[around > gap_limit(rate)]
        longest = float(gaps.max()) if len(gaps) else 0.0
        account = StreamAccount(name, rate, len(inside), round((end - begin) * 1e-9 * rate), len(gaps), longest)
        failed = shortcomings(account, Limits())
        yield from (_error(f"{text}.") for text in failed)
        if len(gaps) and not any("gaps" in text for text in failed):
            yield _warning(f"{name}: {len(gaps)} gaps, the longest {longest:.2f} s.")
        if len(np.unique(inside)) < len(inside):
            yield _warning(f"{name}: {len(inside) - len(np.unique(inside))} messages repeat a stamp.")


def _alignment(contract: RobotContract, episode: EpisodeData) -> Iterator[Problem]:
    """Say of how many control steps the newest frame of a camera is older than the contract lets a policy use."""
    stamps = episode.stamps[:-1]
    for camera in contract.cameras:
        frames = episode.frames[camera.name].stamps
        newest = np.searchsorted(frames, stamps, side="right") - 1
        age = stamps - frames[np.maximum(newest, 0)]
        stale = (newest < 0) | (age > round(contract.staleness.camera * 1e9))
        if stale.any():
            seen = age[newest >= 0] * 1e-9
            oldest = f"the oldest {seen.max():.2f} s" if len(seen) else "none before any of them"
            text = (
                f"camera {camera.name}: no frame of the last {contract.staleness.camera:g} s at {stale.sum()} of "
                f"{len(stamps)} control steps ({oldest})."
            )
            yield Problem(Level.ERROR if stale.mean() > 1 - Limits().min_rate else Level.WARNING, text)

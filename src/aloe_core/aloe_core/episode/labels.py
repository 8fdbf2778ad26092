"""What a bag says about its episode, in `custom_data` of metadata.yaml and once more inside the MCAP file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError, bad_value

FORMAT = "1"
ENDS = ("terminated", "truncated", "aborted")


@dataclass(frozen=True)
class TopicCount:
    """What arrived on a topic against what was promised."""

    received: int
    expected: int = -1  # from the contract's rates; -1 where nothing is promised
    dropped: int = 0  # known to be lost, from gaps in publishers' sequence numbers
    max_gap: float = 0.0  # s, largest distance of two stamps


@dataclass(frozen=True)
class EpisodeLabels:
    """Labels of one episode; `outcome` NONE is a time-out without a verdict."""

    episode_id: str
    task: str
    instruction: str = ""
    seed: int = 0
    supervision: str = ""
    operator: str = ""
    contract: str = ""
    contract_hash: str = ""
    outcome: Outcome = Outcome.NONE
    end: str = "aborted"
    reason: str = ""
    label_stamp: int = 0  # ns, when success or failure was first true; 0 = no label
    policy_versions: tuple[str, ...] = ()
    steps: int = 0  # control steps before label_stamp
    intervention_steps: int = 0  # of which a person drove
    quality: str = ""  # "passed", else what fails the take; empty where nobody checked
    topics: Mapping[str, TopicCount] = field(default_factory=dict)

    def aborted(self, reason: str) -> EpisodeLabels:
        """Return these labels for an episode that must not count as one."""
        return replace(self, outcome=Outcome.ABORTED, end="aborted", reason=reason)

    def to_custom_data(self) -> dict[str, str]:
        """Return string values as rosbag2 wants them; lists and counts are JSON."""
        return {
            "aloe_format": FORMAT,
            "episode_id": self.episode_id,
            "task": self.task,
            "instruction": self.instruction,
            "seed": str(self.seed),
            "supervision": self.supervision,
            "operator": self.operator,
            "contract": self.contract,
            "contract_hash": self.contract_hash,
            "outcome": self.outcome.name.lower(),
            "end": self.end,
            "reason": self.reason,
            "label_stamp": str(self.label_stamp),
            "policy_versions": json.dumps(self.policy_versions),
            "steps": str(self.steps),
            "intervention_steps": str(self.intervention_steps),
            "quality": self.quality,
            "topics": json.dumps({name: asdict(count) for name, count in self.topics.items()}),
        }


def labels_from_custom_data(file: object, data: Mapping[str, str]) -> EpisodeLabels:
    """Read labels back; AloeError names `file` and the key that is missing or wrong."""
    if data.get("aloe_format") != FORMAT:
        raise AloeError(f"{file}: no ALOE labels (custom_data has no aloe_format {FORMAT}): not a recorded episode.")

    def text(key: str) -> str:
        if key not in data:
            raise AloeError(f"{file}: label {key} is missing.")
        return str(data[key])

    def integer(key: str) -> int:
        try:
            return int(text(key))
        except ValueError as error:
            raise bad_value(file, key, data[key], "an integer") from error

    def from_json(key: str, kind: type) -> object:
        try:
            value = json.loads(text(key))
        except json.JSONDecodeError as error:
            raise bad_value(file, key, data[key], "JSON") from error
        if not isinstance(value, kind):
            raise bad_value(file, key, data[key], f"a JSON {kind.__name__}")
        return value

    if text("outcome").upper() not in Outcome.__members__:
        raise bad_value(file, "outcome", data["outcome"], "one of none, success, failure, aborted")
    if text("end") not in ENDS:
        raise bad_value(file, "end", data["end"], "one of " + ", ".join(ENDS))
    topics = from_json("topics", dict)
    versions = from_json("policy_versions", list)
    assert isinstance(topics, dict) and isinstance(versions, list)
    try:
        counts = {str(name): TopicCount(**count) for name, count in topics.items()}
    except TypeError as error:
        raise bad_value(
            file, "topics", data["topics"], "received, expected, dropped and max_gap of each topic"
        ) from error
    return EpisodeLabels(
        episode_id=text("episode_id"),
        task=text("task"),
        instruction=text("instruction"),
        seed=integer("seed"),
        supervision=text("supervision"),
        operator=text("operator"),
        contract=text("contract"),
        contract_hash=text("contract_hash"),
        outcome=Outcome[text("outcome").upper()],
        end=text("end"),
        reason=text("reason"),
        label_stamp=integer("label_stamp"),
        policy_versions=tuple(str(version) for version in versions),
        steps=integer("steps"),
        intervention_steps=integer("intervention_steps"),
        quality=str(data.get("quality", "")),  # bags from before the check have none
        topics=counts,
    )


def sealed(data: Mapping[str, str]) -> dict[str, str]:
    """Return `data` with a checksum, for the copy at the head of the MCAP file that no chunk CRC covers."""
    return {**data, "crc32": str(_crc(data))}


def unsealed(data: Mapping[str, str]) -> dict[str, str] | None:
    """Return what was sealed, or None if it did not survive whole."""
    rest = {key: value for key, value in data.items() if key != "crc32"}
    return rest if data.get("crc32") == str(_crc(rest)) else None


def _crc(data: Mapping[str, str]) -> int:
    return zlib.crc32(json.dumps(dict(data), sort_keys=True).encode())

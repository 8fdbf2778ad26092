"""metadata.yaml of rosbag2, version 9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aloe_core.errors import AloeError

FILE = "metadata.yaml"
VERSION = 9
_ROOT = "rosbag2_bagfile_information"
_FOREVER = {"sec": 9223372036, "nsec": 854775807}
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Qos:
    """What a publisher offered; the rest stands at rosbag2's defaults."""

    depth: int = 10
    reliability: str = "reliable"  # reliable | best_effort
    durability: str = "volatile"  # volatile | transient_local
    history: str = "keep_last"  # keep_last | keep_all

    def to_yaml(self) -> dict[str, object]:
        """Return the profile as rosbag2 spells it."""
        return {
            "history": self.history,
            "depth": self.depth,
            "reliability": self.reliability,
            "durability": self.durability,
            "deadline": dict(_FOREVER),
            "lifespan": dict(_FOREVER),
            "liveliness": "automatic",
            "liveliness_lease_duration": dict(_FOREVER),
            "avoid_ros_namespace_conventions": False,
        }


@dataclass(frozen=True)
class Topic:
    """A recorded topic."""

    name: str
    type: str  # e.g. sensor_msgs/msg/JointState
    type_hash: str  # RIHS01_…
    qos: tuple[dict[str, object], ...]  # profiles as rosbag2 spells them
    count: int


def dump_qos(profiles: Sequence[Mapping[str, object]]) -> str:
    """Return the `offered_qos_profiles` entry of an MCAP channel."""
    return _dump([dict(profile) for profile in profiles]) if profiles else ""


def load_qos(text: str) -> tuple[dict[str, object], ...]:
    """Read an `offered_qos_profiles` entry back; one that cannot be read counts as none."""
    try:
        profiles = yaml.load(text, Loader=LOADER) or []
    except yaml.YAMLError:
        return ()
    return tuple(profiles) if isinstance(profiles, list) else ()


def bag_information(
    file: str, topics: Sequence[Topic], start: int, end: int, custom_data: Mapping[str, str]
) -> dict[str, object]:
    """Return the document of one MCAP `file` whose messages lie in [start, end] (ns)."""
    count = sum(topic.count for topic in topics)
    span = {
        "starting_time": {"nanoseconds_since_epoch": start},
        "duration": {"nanoseconds": end - start},
        "message_count": count,
    }
    return {
        "version": VERSION,
        "storage_identifier": "mcap",
        **span,
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [dict(profile) for profile in topic.qos],
                    "type_description_hash": topic.type_hash,
                },
                "message_count": topic.count,
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file],
        "files": [{"path": file, **span}],
        "custom_data": dict(custom_data),
        "ros_distro": "jazzy",
    }


def dump_information(information: Mapping[str, object]) -> str:
    """Return the text kept in the MCAP record `rosbag2`."""
    return _dump(dict(information))


def dump_file(information: Mapping[str, object]) -> str:
    """Return the text of metadata.yaml."""
    return _dump({_ROOT: dict(information)})


def read_metadata(bag_dir: Path) -> dict[str, Any]:
    """Return the document of a bag directory; AloeError if it is not one."""
    path = bag_dir / FILE
    try:
        document = yaml.load(path.read_bytes(), Loader=LOADER)
    except FileNotFoundError as error:
        raise AloeError(f"{bag_dir}: not a bag directory (there is no {FILE}).") from error
    except OSError as error:
        raise AloeError(f"{path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AloeError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from error
    information = document.get(_ROOT) if isinstance(document, dict) else None
    if not isinstance(information, dict):
        raise AloeError(f"{path}: no {_ROOT}: not the metadata of a bag.")
    return information


def mcap_path(bag_dir: Path, information: Mapping[str, Any]) -> Path:
    """Return the one MCAP file of a bag; AloeError if there is none or more than one."""
    files = information.get("relative_file_paths")
    if information.get("storage_identifier") != "mcap" or not isinstance(files, list) or len(files) != 1:
        raise AloeError(f"{bag_dir / FILE}: expected one MCAP file, as the episode recorder writes it.")
    path = bag_dir / Path(str(files[0])).name
    if not path.is_file():
        raise AloeError(f"{path}: missing, though {FILE} names it.")
    return path


def _dump(value: object) -> str:
    return str(yaml.dump(value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=2**20))

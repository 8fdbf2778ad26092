"""Message definitions as an MCAP file embeds them, from the share folders that ROS installs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aloe_core.errors import AloeError

_RULE = "=" * 80


@dataclass(frozen=True)
class MessageType:
    """A message type with everything a reader without ROS needs."""

    name: str  # package/msg/Type
    schema: str  # ros2msg text, dependencies appended
    type_hash: str  # RIHS01_…

    @property
    def has_header(self) -> bool:
        """Return whether the first field is a std_msgs/Header, so that bytes 4 to 12 of a message are its stamp."""
        return first_field(self.schema).startswith("std_msgs/Header ")


def first_field(schema: str) -> str:
    """Return the first field line of a definition (constants skipped), or an empty string."""
    for line in schema.split(_RULE)[0].splitlines():
        line = line.split("#")[0].strip()
        if line and "=" not in line:
            return " ".join(line.split())
    return ""


def ros_prefixes() -> tuple[Path, ...]:
    """Return the installation prefixes of this shell (AMENT_PREFIX_PATH)."""
    return tuple(Path(entry) for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry)


@lru_cache(maxsize=256)
def find_message_type(name: str, prefixes: tuple[Path, ...]) -> MessageType:
    """Return the installed type `name` (package/msg/Type); AloeError if it is not below any prefix."""
    description = json.loads(_read(name, ".json", prefixes))
    hashes = {entry["type_name"]: entry["hash_string"] for entry in description["type_hashes"]}
    needed = [other for other in hashes if other != name]
    return MessageType(name, join_schema(_read(name, ".msg", prefixes), _texts(needed, prefixes)), hashes[name])


def join_schema(text: str, dependencies: Iterable[tuple[str, str]]) -> str:
    """Return a ros2msg schema: `text`, then each dependency (package/Type, text) under a rule."""
    return text + "".join(f"\n{_RULE}\nMSG: {name}\n{body}" for name, body in dependencies)


def _texts(names: Iterable[str], prefixes: tuple[Path, ...]) -> list[tuple[str, str]]:
    return [(name.replace("/msg/", "/"), _read(name, ".msg", prefixes)) for name in sorted(names)]


def _read(name: str, suffix: str, prefixes: tuple[Path, ...]) -> str:
    for prefix in prefixes:
        path = prefix / "share" / (name + suffix)
        if path.is_file():
            return path.read_text()
    raise AloeError(f"Message type {name}: no share/{name}{suffix} below AMENT_PREFIX_PATH: is its package installed?")

"""JSON lines, each with its checksum: what a store has committed. A torn tail is told from a whole record."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from aloe_core.errors import AloeError


def line(record: dict[str, Any]) -> bytes:
    """Return the line of a record."""
    text = _text(record)
    return f'{{"crc32": {zlib.crc32(text.encode())}, "record": {text}}}\n'.encode()


def read(path: Path) -> list[tuple[dict[str, Any], int]]:
    """Return the whole records at the head of the file, each with the byte where it ends; an absent file has none.

    What follows the first line that is not whole counts as never written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AloeError(f"{path}: cannot be read ({error.strerror}).") from error
    records: list[tuple[dict[str, Any], int]] = []
    good = 0
    while (end := data.find(b"\n", good)) >= 0:
        record = _parse(data[good:end])
        if record is None:
            break
        good = end + 1
        records.append((record, good))
    return records


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        sealed = json.loads(text)
        record = sealed["record"]
        return record if zlib.crc32(_text(record).encode()) == sealed["crc32"] else None
    except (ValueError, KeyError, TypeError):
        return None


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"))

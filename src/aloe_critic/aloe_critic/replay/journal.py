"""JSON lines, each with its checksum: what a store has committed. A torn tail is told from a whole record."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aloe_core.errors import AloeError


def line(record: dict[str, Any]) -> bytes:
    """Return the line of a record."""
    text = _text(record)
    return f'{{"crc32": {zlib.crc32(text.encode())}, "record": {text}}}\n'.encode()


def read(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the whole records at the head of the file, each with the byte where it ends; an absent file has none.

    What follows the first line that is not whole counts as never written.
    """
    good = 0
    try:
        with path.open("rb") as file:
            for text in file:
                record = _parse(text) if text.endswith(b"\n") else None
                if record is None:
                    return
                good += len(text)
                yield record, good
    except FileNotFoundError:
        return
    except OSError as error:
        raise AloeError(f"{path}: cannot be read ({error.strerror}).") from error


def one(text: bytes, path: Path) -> dict[str, Any]:
    """Return the record of a line; AloeError if it is no longer whole."""
    record = _parse(text)
    if record is None:
        raise AloeError(f"{path}: a record that was whole is damaged; remove the folder and index the bags anew.")
    return record


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        sealed = json.loads(text)
        record = sealed["record"]
        return record if zlib.crc32(_text(record).encode()) == sealed["crc32"] else None
    except (ValueError, KeyError, TypeError):
        return None


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"))

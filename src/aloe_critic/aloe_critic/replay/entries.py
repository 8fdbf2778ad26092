"""The entries of a store, read from its journal when asked for: in memory a bag is two numbers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from aloe_core.errors import AloeError
from aloe_critic.replay import journal
from aloe_critic.replay.layout import Entry

FORMAT = 1
_LINE = 4096  # bytes read at first; a record has about 700


class Entries(Mapping[str, Entry]):
    """Bag -> its newest entry, in the order in which bags came."""

    def __init__(self, path: Path) -> None:
        """`path`: the journal; AloeError from what is looked up in it if it cannot be read."""
        self._path = path
        self._positions: dict[int, int] = {}  # hash of the bag's name -> byte where its record begins
        self._descriptor = -1

    def note(self, bag: str, position: int) -> None:
        """Let a bag's newest record be the one that begins at this byte."""
        self._positions[_key(bag)] = position

    def position(self, bag: str) -> int:
        """Return where a bag's record begins; KeyError if there is none."""
        return self._positions[_key(bag)]

    def at(self, position: int) -> Entry:
        """Return the entry whose record begins at this byte."""
        return parse(journal.one(self._line(position), self._path), self._path.parent)

    def __getitem__(self, bag: str) -> Entry:
        return self.at(self.position(bag))

    def __iter__(self) -> Iterator[str]:
        return (self.at(position).bag for position in self._positions.values())

    def __len__(self) -> int:
        return len(self._positions)

    def _line(self, position: int) -> bytes:
        data, size = b"", _LINE
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY)
            while b"\n" not in data:
                part = os.pread(self._descriptor, size, position + len(data))
                if not part:
                    break
                data += part
        except OSError as error:
            raise AloeError(f"{self._path}: cannot be read ({error.strerror}).") from error
        return data.partition(b"\n")[0]

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def parse(record: dict[str, object], folder: Path) -> Entry:
    """Return the entry of a record; AloeError if it is of another format."""
    try:
        lists = {name: tuple(record[name]) for name in ("frames", "breaks")}  # type: ignore[arg-type]
        return Entry(**(record | lists))  # type: ignore[arg-type]
    except (TypeError, KeyError) as error:
        raise AloeError(f"{folder}: a record of the journal is not one of format {FORMAT} ({error}).") from error


def _key(bag: str) -> int:
    return int.from_bytes(hashlib.blake2b(bag.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")

"""The tables of a store's episodes on disk, kept from one training run to the next.

    view-<stride>/journal.jsonl   one record for each episode, in order, and how many rows each column then has
    view-<stride>/<column>.bin    rows of a column

Made once for each bag: a run with the same bags, or with more behind them, goes on with what is there. Data reach the
disk before the record that names them, as in the store. Another choice of bags takes the place of this one; who still
reads the old files keeps them, for they are unlinked, never cut.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from aloe_core.episode.files import sync_directory
from aloe_core.errors import AloeError
from aloe_critic.replay import journal
from aloe_critic.replay.columns import Column, FileColumn, Spec, row_bytes, scratch
from aloe_critic.replay.tables import GROUPS, Tables

JOURNAL, LOCK = "journal.jsonl", "lock"
COMMIT_EPISODES = 256

Key = tuple[str, str, int, int]  # bag, signature, where its block and its payload lie


class Index:
    """Tables of the first episodes of a choice, and room for the others."""

    def __init__(self, tables: Tables, log: FileIO | None = None) -> None:
        """`log`: journal to append to; None for tables that are complete, or that nobody finds again."""
        self.tables, self._log = tables, log
        self.facts: dict[tuple[str, ...], None] = {}  # in order: what differs little among episodes, see `add`
        self._pending: list[dict[str, Any]] = []

    def add(self, key: Key, *facts: str) -> None:
        """Note that an episode was appended to the tables, and the texts that its rows name by number."""
        counts = {group: self.tables.count(group) for group in GROUPS}
        self._pending.append({"key": list(key), "facts": facts, "counts": counts})
        if len(self._pending) >= COMMIT_EPISODES:
            self.commit()

    def commit(self) -> None:
        """Put the tables on disk, then the records that make them count."""
        if self._log is not None and self._pending:
            for column in self.tables.columns.values():
                assert isinstance(column, FileColumn)
                column.flush()
                os.fsync(column.fileno())
            self._log.write(b"".join(map(journal.line, self._pending)))
            os.fsync(self._log.fileno())
        self._pending = []


@contextmanager
def opened(folder: Path, spec: Spec, keys: Callable[[int], Key | None]) -> Iterator[Index]:
    """Give the tables of as many of the episodes as are known; commits at the end.

    `keys(n)`: of the n-th episode, None behind the last. While another process holds the folder the tables are made in
    files of no name. AloeError if they cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        with (folder / LOCK).open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield Index(Tables({name: scratch(folder, *kind) for name, kind in spec.items()}))
                return
            index = _open(folder, spec, keys)
            yield index
            index.commit()
    except OSError as error:
        raise AloeError(f"{folder}: the replay's tables cannot be written ({error.strerror}).") from error


def _open(folder: Path, spec: Spec, keys: Callable[[int], Key | None]) -> Index:
    known, end = 0, 0
    counts: dict[str, int] = dict.fromkeys(GROUPS, 0)
    facts: dict[tuple[str, ...], None] = {}
    there = {group: min(_rows(folder / f"{n}.bin", spec[n]) for n in names) for group, names in GROUPS.items()}
    key = keys(0)
    for record, after in journal.read(folder / JOURNAL):
        if key is None:
            break  # more than is asked for: the first of them serve, and nothing is appended
        if record["key"] != list(key) or any(record["counts"][group] > rows for group, rows in there.items()):
            known, end, counts, facts = 0, 0, dict.fromkeys(GROUPS, 0), {}
            _clear(folder)
            break
        known, end, counts = known + 1, after, record["counts"]
        facts[tuple(record["facts"])] = None
        key = keys(known)
    complete = keys(known) is None
    columns: dict[str, Column] = {}
    for group, names in GROUPS.items():
        for name in names:
            descriptor = os.open(folder / f"{name}.bin", os.O_RDWR | os.O_CREAT, 0o644)
            column = columns[name] = FileColumn(FileIO(descriptor, "r+"), *spec[name], counts[group])
            if not complete:  # what is not committed was mapped by nobody
                os.ftruncate(descriptor, column.bytes)
    index = Index(Tables(columns), None if complete else _log(folder, end))
    index.facts = facts
    return index


def _log(folder: Path, end: int) -> FileIO:
    log = FileIO(os.open(folder / JOURNAL, os.O_RDWR | os.O_CREAT, 0o644), "r+")
    log.truncate(end)
    log.seek(end)
    sync_directory(folder)
    return log


def _rows(path: Path, kind: tuple[str, tuple[int, ...]]) -> int:
    return path.stat().st_size // row_bytes(*kind) if path.exists() else 0


def _clear(folder: Path) -> None:
    """Unlink all but the lock: the records first, for they name the rest."""
    (folder / JOURNAL).unlink(missing_ok=True)
    sync_directory(folder)
    for path in folder.glob("*.bin"):
        path.unlink()

"""From folders of bags, local or at any fsspec URL, to a replay."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_core.episode.metadata import FILE
from aloe_core.episode.names import PARTIAL
from aloe_core.episode.reader import read_episode
from aloe_core.errors import AloeError
from aloe_critic.replay.check import failed_check
from aloe_critic.replay.store import ReplayStore
from aloe_critic.replay.view import Replay

_CHANGES = ("size", "mtime", "mode", "ETag", "etag", "LastModified", "last_modified", "updated", "created", "md5Hash")

# Why a take is left out that could be read; `failed_takes` is a hyperparameter.
FAILED = "the take failed its quality check: {}; --set failed_takes=true uses it."


@dataclass(frozen=True)
class BagSource:
    """A bag directory, and how its files look from outside."""

    name: str  # as the user would write it
    key: str  # absolute
    signature: str
    remote: tuple[Any, tuple[str, ...]] | None = None  # file system and files, None if local

    @contextmanager
    def local(self) -> Iterator[Path]:
        """Give a local directory, for remote bags a temporary copy; AloeError if it cannot be fetched."""
        if self.remote is None:
            yield Path(self.name)
            return
        system, files = self.remote
        with tempfile.TemporaryDirectory(prefix="aloe-bag-") as folder:
            # Under the bag's own name, which errors and suffixes such as .partial are read from.
            directory = Path(folder) / self.name.rstrip("/").rsplit("/", 1)[-1]
            directory.mkdir()
            try:
                for file in files:
                    system.get_file(file, str(directory / file.rsplit("/", 1)[-1]))
            except OSError as error:
                raise Unreachable(f"{self.name}: cannot be fetched ({error}).") from error
            yield directory

    def read(self, contract: RobotContract) -> EpisodeData:
        """Return the episode; AloeError as in `read_episode`, naming the bag by its own name."""
        with self.local() as directory:
            try:
                return read_episode(directory, contract)
            except AloeError as error:
                if self.remote is None:
                    raise
                raise AloeError(str(error).replace(str(directory), self.name)) from error


class Unreachable(AloeError):
    """Nothing is known about the bag; the next attempt may succeed."""


def find_bags(folders: Sequence[str | Path]) -> list[BagSource]:
    """Return the bags in these folders (or the bags they are), each once, by name within a folder.

    AloeError if a folder does not exist or its URL cannot be opened.
    """
    found: dict[str, BagSource] = {}
    for folder in map(str, folders):
        url = "://" in folder or "::" in folder
        if url and folder.startswith("file://"):
            folder, url = folder.removeprefix("file://"), False
        for bag in _remote(folder) if url else _local(Path(folder)):
            found.setdefault(bag.key, bag)
    return list(found.values())


def load_bags(
    replay: Replay,
    folders: Sequence[str | Path],
    contract: RobotContract,
    progress: Callable[[str, int, int, float], None] = lambda *_: None,
    store: ReplayStore | None = None,
    only: Mapping[str, str] | None = None,
    failed_takes: bool = False,
) -> dict[str, str]:
    """Index the bags in these folders; a bag that cannot be used is set aside with its reason.

    With a store only bags that it does not know, or that have changed, are read. `only`: keys and signatures of the
    bags to take, all of which must be there as they were. Takes that failed their quality check are set aside unless
    `failed_takes`; a store keeps them all the same. AloeError if no bag is usable.
    """
    bags = find_bags(folders)
    if only is not None:
        there = {bag.key: bag for bag in bags}
        missing = [key for key in only if key not in there]
        if missing:
            raise AloeError(f"{missing[0]}: the run that goes on learned from this bag; it is gone, start a fresh run.")
        changed = [key for key, signature in only.items() if there[key].signature != signature]
        if changed:
            raise AloeError(f"{changed[0]}: changed since the run that goes on learned from it; start a fresh run.")
        bags = [there[key] for key in only]
    if store is None:
        set_aside = _read_into(replay, bags, contract, progress, failed_takes)
    else:
        set_aside = update(store, bags, progress)
        usable = []
        for bag in bags:
            entry = store.known(bag.key, bag.signature)
            if entry is not None and entry.failed and not failed_takes:
                set_aside[bag.name] = FAILED.format(entry.failed)
            elif entry is not None and not entry.reason:
                usable.append(bag.key)
        replay.attach(store, usable)
    if not len(replay.episodes):
        reason = f"; the first of {len(set_aside)} set aside: {next(iter(set_aside.values()))}" if set_aside else ""
        raise AloeError(f"{', '.join(map(str, folders))}: no usable bag{reason or '.'}")
    return set_aside


def update(
    store: ReplayStore,
    bags: Sequence[BagSource],
    progress: Callable[[str, int, int, float], None] = lambda *_: None,
) -> dict[str, str]:
    """Bring a store up to date with these bags; returns those set aside, now or before, and why."""
    unreachable: dict[str, str] = {}
    if any(store.known(bag.key, bag.signature) is None for bag in bags):
        with store.appending():
            new = [bag for bag in bags if store.known(bag.key, bag.signature) is None]
            for number, bag in enumerate(new):
                try:
                    store.append(bag.key, bag.signature, bag.read(store.contract))
                except Unreachable as error:
                    unreachable[bag.name] = str(error)
                except AloeError as error:
                    store.set_aside(bag.key, bag.signature, str(error))
                progress("reading bags", number + 1, len(new), 0.0)
    set_aside = {}
    for bag in bags:
        entry = store.known(bag.key, bag.signature)
        reason = entry.reason if entry is not None else unreachable.get(bag.name, "")
        if reason:
            set_aside[bag.name] = reason
    return set_aside


def _read_into(
    replay: Replay,
    bags: Sequence[BagSource],
    contract: RobotContract,
    progress: Callable[[str, int, int, float], None],
    failed_takes: bool,
) -> dict[str, str]:
    set_aside = {}
    for number, bag in enumerate(bags):
        try:
            episode = bag.read(contract)
            failed = failed_check(episode)
            if failed and not failed_takes:
                set_aside[bag.name] = FAILED.format(failed)
            else:
                replay.add(episode)
        except AloeError as error:
            set_aside[bag.name] = str(error)
        progress("reading bags", number + 1, len(bags), 0.0)
    return set_aside


def _local(folder: Path) -> Iterator[BagSource]:
    if not folder.is_dir():
        raise AloeError(f"{folder}: no such folder of bags.")
    found = [folder] if (folder / FILE).is_file() else sorted(folder.iterdir())
    for bag in found:
        if (bag / FILE).is_file() and not bag.name.endswith(PARTIAL):
            files = {}
            for file in (f for f in bag.iterdir() if _is_part(f.name)):
                status = file.stat()
                files[file.name] = (status.st_size, status.st_mtime_ns, status.st_mode)
            yield BagSource(str(bag), os.path.realpath(bag), _signature(files))


def _remote(url: str) -> Iterator[BagSource]:
    try:
        system, path = fsspec.core.url_to_fs(url)
        if not system.isdir(path):
            raise AloeError(f"{url}: no such folder of bags.")
        inside = system.ls(path, detail=True)
        folders = [path] if any(_base(item) == FILE for item in inside) else _directories(inside)
        for folder in folders:
            items = [item for item in system.ls(folder, detail=True) if _is_part(_base(item))]
            if any(_base(item) == FILE for item in items) and not folder.rstrip("/").endswith(PARTIAL):
                files = {_base(item): [item.get(name) for name in _CHANGES] for item in items}
                name = system.unstrip_protocol(folder)
                key = name if "::" not in url else f"{url}#{name}"
                yield BagSource(name, key, _signature(files), (system, tuple(item["name"] for item in items)))
    except (ImportError, ValueError) as error:
        raise AloeError(f"{url}: this kind of URL cannot be opened ({error}).") from error
    except OSError as error:
        raise AloeError(f"{url}: bags cannot be listed ({error}).") from error


def _is_part(name: str) -> bool:
    """What stands beside these (tables of values, notes) does not make it another bag."""
    return name == FILE or name.endswith(".mcap")


def _directories(items: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(item["name"] for item in items if item["type"] == "directory")


def _base(item: dict[str, Any]) -> str:
    return str(item["name"]).rstrip("/").rsplit("/", 1)[-1]


def _signature(files: dict[str, Any]) -> str:
    return hashlib.blake2b(repr(sorted(files.items())).encode(), digest_size=12).hexdigest()

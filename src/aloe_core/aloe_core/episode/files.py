"""Directories that survive a power cut."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from aloe_core.episode import metadata
from aloe_core.episode.names import TRASH
from aloe_core.errors import AloeError


def check_folder(folder: Path, min_free: int) -> None:
    """Create `folder` if need be; AloeError if it cannot be written or has less than `min_free` bytes left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise AloeError(f"{folder}: cannot be used as bag folder ({error.strerror}).") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AloeError(f"{folder}: cannot be used as bag folder (not writable).")
    if free < min_free:
        raise AloeError(
            f"{folder}: {free / 2**20:.0f} MiB left on the disk: "
            f"expected at least {min_free / 2**20:.0f} MiB for a take."
        )


def publish(partial: Path, final: Path, information: Mapping[str, object]) -> None:
    """Write metadata.yaml into `partial` and give it its final name, each step on disk before the next."""
    temporary = partial / (metadata.FILE + ".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(metadata.dump_file(information))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(partial / metadata.FILE)
    sync_directory(partial)
    partial.rename(final)
    sync_directory(final.parent)


def being_written(bag: Path) -> bool:
    """Return whether a recorder holds the lock of a bag's file."""
    for file in bag.glob("*.mcap"):
        with file.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def move_to_trash(bag: Path) -> Path:
    """Move a bag directory into `trash/` beside it and return where it went; AloeError if it cannot be moved."""
    trash = bag.parent / TRASH
    target = trash / bag.name
    try:
        trash.mkdir(exist_ok=True)
        number = 1
        while target.exists():
            number += 1
            target = trash / f"{bag.name}.{number}"
        bag.rename(target)
        sync_directory(trash)
        sync_directory(bag.parent)
    except OSError as error:
        raise AloeError(f"{bag}: cannot be moved to {trash} ({error.strerror}).") from error
    return target


def sync_directory(directory: Path) -> None:
    """Make renames and new files in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

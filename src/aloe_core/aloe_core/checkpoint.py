"""Checkpoints on disk: a directory that is complete or absent, and a LATEST pointer beside it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aloe_core.errors import AloeError

MANIFEST = "manifest.json"
CONFIG = "config.json"
NORM = "norm.json"
LATEST = "LATEST"
FORMAT: Literal[1] = 1

_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")
_TMP = ".tmp-"
_LOCK = ".lock"
_BLOCK = 1 << 20

FileContent = bytes | Callable[[Path], None]


class FileEntry(BaseModel):
    """Size (bytes) and sha256 of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Manifest(BaseModel):
    """What a checkpoint promises about itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1]
    version: str
    created: str  # UTC, ISO 8601
    contract_hash: str
    step: int = Field(ge=0)
    parent: str  # version it was trained from, or empty
    method: str
    git_revision: str | None
    metrics: dict[str, Any]
    report: dict[str, Any] | None
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class Stored:
    """A directory found in a checkpoint folder; exactly one of `manifest` and `problem` is set."""

    path: Path
    manifest: Manifest | None
    problem: str | None


def write_checkpoint(
    root: str | Path,
    version: str,
    files: Mapping[str, FileContent],
    *,
    config: Mapping[str, object],
    norm: Mapping[str, object],
    contract_hash: str,
    step: int,
    parent: str,
    method: str,
    metrics: Mapping[str, object],
    report: Mapping[str, object] | None = None,
) -> Path:
    """Write root/version, point LATEST at it and return its path.

    `files` maps a file name to its bytes or to a function that writes the path it is given. Readers see
    the whole checkpoint or none; metrics that are not finite become null. AloeError if the version
    exists, a name is unusable or the folder cannot be written.
    """
    root = Path(root)
    contents: dict[str, FileContent] = {
        **files,
        CONFIG: _json(config, CONFIG),
        NORM: _json(norm, NORM),
    }
    for name in (version, *contents):
        check_name(name)
    if MANIFEST in files or CONFIG in files or NORM in files:
        raise AloeError(
            f"Checkpoint {version}: {MANIFEST}, {CONFIG} and {NORM} are written by write_checkpoint itself."
        )
    try:
        with _writing(root):
            final = root / version
            if final.exists():
                raise AloeError(f"{final}: this checkpoint version exists already; choose another version.")
            tmp = root / f"{_TMP}{version}"
            tmp.mkdir()
            try:
                entries = {name: _write_file(tmp / name, content) for name, content in contents.items()}
                manifest = Manifest(
                    format=FORMAT,
                    version=version,
                    created=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
                    contract_hash=contract_hash,
                    step=step,
                    parent=parent,
                    method=method,
                    git_revision=git_revision(),
                    metrics=_finite(metrics),
                    report=_finite(report) if report is not None else None,
                    files=entries,
                )
                _write_file(tmp / MANIFEST, manifest.model_dump_json(indent=1).encode())
                fsync(tmp)
                os.rename(tmp, final)
            except BaseException:
                shutil.rmtree(tmp, ignore_errors=True)
                raise
            fsync(root)
            _point(root, version)
            return final
    except OSError as error:
        raise AloeError(f"{root}: checkpoint {version} cannot be written ({error.strerror}).") from error


def verify_checkpoint(
    directory: str | Path, *, contract_hash: str | None = None, expect_sha256: str | None = None
) -> Manifest:
    """Read every byte and return the manifest; AloeError says in one sentence what is wrong.

    `contract_hash` is the robot's, `expect_sha256` that of the manifest file as it was announced.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    if expect_sha256 is not None and manifest_sha256(directory) != expect_sha256:
        raise AloeError(f"{directory}: the manifest is not the one announced (sha256 differs); publish it again.")
    if contract_hash is not None:
        check_contract(manifest, contract_hash, directory)
    try:
        found = {entry.name for entry in os.scandir(directory)}
        extra = sorted(found - set(manifest.files) - {MANIFEST})
        if extra:
            raise AloeError(f"{directory}: {extra[0]!r} is not listed in {MANIFEST}; refuse it or remove the file.")
        for name, entry in manifest.files.items():
            verify_file(directory / name, entry)
    except OSError as error:
        raise AloeError(f"{directory}: cannot be read ({error.strerror}).") from error
    return manifest


def read_manifest(directory: str | Path) -> Manifest:
    """Parse the manifest without reading the files it lists; AloeError if this is no checkpoint."""
    path = Path(directory) / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise AloeError(f"{directory}: not a checkpoint ({MANIFEST} is missing).") from None
    except OSError as error:
        raise AloeError(f"{path}: cannot be read ({error.strerror}).") from error
    return parse_manifest(data, path)


def parse_manifest(content: bytes, path: str | Path) -> Manifest:
    """Return the manifest that a file holds; AloeError names `path`. File names in it are safe to join to a folder."""
    try:
        data = json.loads(content)
    except ValueError as error:
        raise AloeError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(data, dict) or "format" not in data or "files" not in data:
        raise AloeError(f"{path}: not a checkpoint manifest (keys format and files are missing).")
    if data["format"] != FORMAT:
        raise AloeError(f"{path}: format = {data['format']!r}: expected {FORMAT}, the one this version reads.")
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise AloeError(f"{path}: {key}: {first['msg']}.") from error
    for name in (manifest.version, *manifest.files):
        check_name(name)
    missing = sorted({CONFIG, NORM} - set(manifest.files))
    if missing:
        raise AloeError(f"{path}: files: {missing[0]} is not listed, but every checkpoint has it.")
    return manifest


def manifest_sha256(directory: str | Path) -> str:
    """Return the sha256 of manifest.json, which stands for the whole checkpoint."""
    path = Path(directory) / MANIFEST
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise AloeError(f"{path}: cannot be read ({error.strerror}).") from error


def list_checkpoints(root: str | Path) -> list[Stored]:
    """Return what lies in `root`, oldest first; a directory that is no checkpoint carries its problem."""
    root = Path(root)
    if not root.is_dir():
        return []
    found = []
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            found.append(Stored(path, read_manifest(path), None))
        except AloeError as error:
            found.append(Stored(path, None, str(error)))
    return sorted(found, key=lambda s: s.manifest.created if s.manifest else "")


def next_version(root: str | Path, method: str) -> str:
    """Return the name of the next checkpoint in `root`: v0001-<method>, v0002-<method>, whatever the methods before."""
    numbers = (int(s.path.name[1:5]) for s in list_checkpoints(root) if s.path.name[1:5].isdigit())
    return f"v{1 + max(numbers, default=0):04d}-{method}"


def latest(root: str | Path) -> Path | None:
    """Return the directory LATEST names, None without a LATEST; AloeError if it names nothing usable."""
    pointer = Path(root) / LATEST
    try:
        version = pointer.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise AloeError(f"{pointer}: cannot be read ({error}).") from error
    check_name(version)
    directory = Path(root) / version
    if not directory.is_dir():
        raise AloeError(f"{pointer}: names {version!r}, which is not there; promote another checkpoint.")
    return directory


def promote(root: str | Path, version: str) -> Path:
    """Verify root/version, point LATEST at it and return its path; AloeError if it is damaged."""
    root = Path(root)
    check_name(version)
    verify_checkpoint(root / version)
    try:
        with _writing(root):
            _point(root, version)
    except OSError as error:
        raise AloeError(f"{root}: {LATEST} cannot be written ({error.strerror}).") from error
    return root / version


def rollback(root: str | Path) -> Path:
    """Point LATEST at the parent of the checkpoint it names and return the parent's path."""
    current = latest(root)
    if current is None:
        raise AloeError(f"{root}: no {LATEST} checkpoint, so there is nothing to roll back.")
    parent = read_manifest(current).parent
    if not parent:
        raise AloeError(f"{current}: has no parent to roll back to.")
    return promote(root, parent)


def check_contract(manifest: Manifest, contract_hash: str, where: str | Path) -> None:
    """AloeError, which names `where`, if the checkpoint was made for another robot."""
    if manifest.contract_hash != contract_hash:
        raise AloeError(
            f"{where}: contract_hash = {manifest.contract_hash!r}: expected {contract_hash!r}, the hash of this "
            "robot's contract."
        )


def verify_file(path: Path, entry: FileEntry) -> None:
    """AloeError unless the file is there and has the size and the sha256 of its entry; OSError as it comes."""
    if path.is_symlink() or not path.is_file():
        raise AloeError(f"{path}: listed in {MANIFEST} but missing; copy the checkpoint again.")
    size = path.stat().st_size
    if size != entry.size:
        raise AloeError(f"{path}: {size} bytes, expected {entry.size}; copy the checkpoint again.")
    if _sha256(path) != entry.sha256:
        raise AloeError(f"{path}: corrupt (sha256 differs from {MANIFEST}); copy the checkpoint again.")


def check_name(name: str) -> None:
    """AloeError unless `name` is a plain name for a version or a file of a checkpoint."""
    if not _NAME.match(name):
        raise AloeError(f"Checkpoint: {name!r} is not a usable name; expected letters, digits, dot, dash, underscore.")


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Hold the folder's writer lock; whatever a killed writer left behind is removed first."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / _LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in root.glob(f"{_TMP}*"):
            if stale.is_dir():
                shutil.rmtree(stale)
            else:
                stale.unlink()
        yield


def _write_file(path: Path, content: FileContent) -> FileEntry:
    if callable(content):
        content(path)
        if not path.is_file():
            raise AloeError(f"{path.name}: its writer produced no file.")
    else:
        path.write_bytes(content)
    fsync(path)
    return FileEntry(sha256=_sha256(path), size=path.stat().st_size)


def _point(root: Path, version: str) -> None:
    tmp = root / f"{_TMP}{LATEST}"
    tmp.write_text(version + "\n")
    fsync(tmp)
    os.replace(tmp, root / LATEST)
    fsync(root)


def fsync(path: Path) -> None:
    """Make a file, or the names in a directory, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _plain(value: object) -> object:
    """Turn NumPy values into JSON ones."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise AloeError(f"Checkpoint: {type(value).__name__} cannot be stored as JSON.")


def _json(data: Mapping[str, object], name: str) -> bytes:
    try:
        return json.dumps(dict(data), default=_plain, allow_nan=False, indent=1).encode()
    except ValueError as error:
        raise AloeError(f"{name}: holds a number that is not finite, so the checkpoint is not written.") from error


def _finite(data: Mapping[str, object]) -> dict[str, Any]:
    plain = json.loads(json.dumps(dict(data), default=_plain))

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [clean(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    cleaned: dict[str, Any] = clean(plain)
    return cleaned


def git_revision() -> str | None:
    """Return the commit of the source tree this code runs from, None outside one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).resolve().parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

"""Checkpoints pushed to where robots fetch them from: files first, then the manifest, then LATEST."""

from __future__ import annotations

from pathlib import Path

from aloe_core.checkpoint import LATEST, MANIFEST, Manifest, parse_manifest, verify_checkpoint
from aloe_core.errors import AloeError
from aloe_policy.urls import FsspecFolder, NotThere, read_small, remote_latest, shown


def open_target(url: str) -> FsspecFolder:
    """Return the folder that `url` means; AloeError if nothing can be written there, whatever is tried."""
    if "://" not in url:
        raise AloeError(f"publish = {url!r}: expected a URL, e.g. s3://bucket/checkpoints.")
    if url.startswith(("http://", "https://")):
        raise AloeError(f"publish = {shown(url)!r}: HTTP only reads; expected e.g. s3://bucket/checkpoints.")
    return FsspecFolder(url)


def push(directory: Path, url: str) -> str:
    """Upload a checkpoint into the folder at `url`, where LATEST then names it, and return its own URL.

    Whoever reads meanwhile finds it whole or not at all. One that is there already is left as it is; LATEST then moves
    only from an older checkpoint, as after an upload that was cut off just before. AloeError if it is damaged, another
    one has its version, or it cannot be written.
    """
    manifest = verify_checkpoint(directory)
    remote, version = open_target(url), manifest.version
    content = (directory / MANIFEST).read_bytes()
    try:
        there = read_small(remote, f"{version}/{MANIFEST}")
    except NotThere:
        there = b""
    if there and there != content:
        raise AloeError(f"{shown(url)}/{version}: another checkpoint of this version is there; publish elsewhere.")
    if not there:
        for name in manifest.files:
            remote.put(f"{version}/{name}", str(directory / name))
        remote.write(f"{version}/{MANIFEST}", content)
    if not there or _newer(manifest, remote, remote_latest(url)):
        remote.write(LATEST, f"{version}\n".encode())
    return f"{url.rstrip('/')}/{version}"


def _newer(manifest: Manifest, remote: FsspecFolder, latest: str | None) -> bool:
    if latest is None:
        return True
    name = f"{latest}/{MANIFEST}"
    try:
        return manifest.created > parse_manifest(read_small(remote, name), name).created
    except NotThere:
        return True

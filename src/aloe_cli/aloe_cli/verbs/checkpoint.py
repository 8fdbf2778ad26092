"""`./aloe checkpoint`: what is in a checkpoint folder, and which one is current."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from aloe_cli.command import VerbApp
from aloe_core import checkpoint as store
from aloe_core.errors import AloeError
from aloe_policy.checkpoint_cache import CheckpointCache, default_cache
from aloe_policy.urls import is_url, remote_latest, shown

app = VerbApp(help="List, show, promote, roll back and publish checkpoints.")

Folder = Annotated[Path, typer.Argument(help="Folder that holds the checkpoints and LATEST.", metavar="FOLDER")]


@app.command("list")
def list_(folder: Folder) -> dict[str, Any]:
    """List the checkpoints of FOLDER, oldest first; * marks the current one."""
    _require_folder(folder)
    current = store.latest(folder)
    found = store.list_checkpoints(folder)
    table = Table("", "version", "step", "method", "parent", "created", box=None, pad_edge=False)
    rows = []
    for stored in found:
        mark = "*" if stored.path == current else ""
        if stored.manifest is None:
            table.add_row(mark, stored.path.name, "", "", "", f"unusable: {stored.problem}")
            rows.append({"version": stored.path.name, "problem": stored.problem})
            continue
        m = stored.manifest
        table.add_row(mark, m.version, str(m.step), m.method, m.parent or "-", m.created[:19])
        rows.append(
            {"version": m.version, "step": m.step, "method": m.method, "parent": m.parent, "created": m.created}
        )
    Console().print(table if found else f"{folder}: no checkpoints.")
    return {"folder": str(folder), "latest": current.name if current else None, "checkpoints": rows}


@app.command()
def show(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint, or a folder whose LATEST is meant; a URL as well.")],
) -> dict[str, Any]:
    """Verify every byte of CHECKPOINT and print its manifest; one at a URL is fetched into the cache first."""
    directory = _fetch(checkpoint) if is_url(checkpoint) else _resolve(Path(checkpoint))
    manifest = store.verify_checkpoint(directory)
    data = {"path": str(directory), "sha256": store.manifest_sha256(directory), **manifest.model_dump()}
    table = Table(box=None, show_header=False, pad_edge=False)
    for key in ("version", "path", "sha256", "created", "method", "step", "parent", "contract_hash", "git_revision"):
        table.add_row(key, str(data[key] if data[key] not in ("", None) else "-"))
    for name, entry in manifest.files.items():
        table.add_row(name, f"{entry.size} B, intact")
    for name, value in manifest.metrics.items():
        table.add_row(f"metric {name}", str(value))
    Console().print(table)
    return data


@app.command()
def promote(
    folder: Folder, version: Annotated[str, typer.Argument(help="Checkpoint that LATEST shall name.")]
) -> dict[str, Any]:
    """Verify VERSION and make it the current checkpoint of FOLDER."""
    _require_folder(folder)
    previous = _current_name(folder)
    path = store.promote(folder, version)
    print(f"{folder}: LATEST is now {path.name} (was {previous}).")
    return {"folder": str(folder), "latest": path.name, "previous": previous}


@app.command()
def rollback(folder: Folder) -> dict[str, Any]:
    """Make the parent of the current checkpoint of FOLDER the current one."""
    _require_folder(folder)
    previous = _current_name(folder)
    path = store.rollback(folder)
    print(f"{folder}: LATEST is now {path.name} (was {previous}).")
    return {"folder": str(folder), "latest": path.name, "previous": previous}


@app.command()
def publish(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or a folder whose LATEST is meant.")],
    url: Annotated[str, typer.Argument(help="Where robots fetch checkpoints from, e.g. s3://bucket/checkpoints.")],
) -> dict[str, Any]:
    """Verify CHECKPOINT and upload it into the folder at URL, where LATEST then names it."""
    from aloe_critic.upload import push  # not needed, and not imported, by the other verbs

    directory = _resolve(checkpoint)
    uri = push(directory, url)
    print(f"{shown(uri)}: published.")
    return {"uri": shown(uri), "version": directory.name, "sha256": store.manifest_sha256(directory)}


def _fetch(url: str) -> Path:
    version = remote_latest(url)
    return CheckpointCache(default_cache(), None).fetch(url if version is None else f"{url.rstrip('/')}/{version}")


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise AloeError(f"{folder}: no such folder.")


def _current_name(folder: Path) -> str | None:
    """Name LATEST holds; a LATEST that names nothing usable must not stop a promotion that repairs it."""
    try:
        current = store.latest(folder)
    except AloeError:
        return None
    return current.name if current else None


def _resolve(path: Path) -> Path:
    """Return the checkpoint directory meant by `path`."""
    if not path.exists():
        raise AloeError(f"{path}: no such checkpoint.")
    if (path / store.MANIFEST).exists():
        return path
    return store.latest(path) or path

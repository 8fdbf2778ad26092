"""Local copies of checkpoints from URLs: whole and verified, or not there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from aloe_core.checkpoint import (
    MANIFEST,
    FileEntry,
    Manifest,
    check_contract,
    fsync,
    parse_manifest,
    verify_checkpoint,
    verify_file,
)
from aloe_core.errors import AloeError
from aloe_policy.urls import RemoteFolder, Unreachable, open_remote, read_small, shown

PARTIAL = ".partial-"
_LOCK = ".lock"
_COPY = re.compile(r"\w.*\.[0-9a-f]{12}$")
_RESERVE = 256 << 20  # bytes of the disk that no download may take
_LOCK_PERIOD = 0.2  # s between looks at whether another process has finished its download

Stopped = Callable[[], bool]


def default_cache() -> Path:
    """Return where downloads go unless a folder is named."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aloe" / "checkpoints"


class CheckpointCache:
    """`root/<version>.<first 12 digits of the manifest's sha256>`; several processes may share a root.

    A download lies in `.partial-<the same>` until every byte is there and its sha256 is that of the manifest; then it
    is renamed. What was received before an interruption is kept, and asked for no second time.
    """

    def __init__(self, root: Path, contract_hash: str | None, keep: int = 3) -> None:
        """`contract_hash`: of the robot, None: fetch for any; `keep`: copies left by `prune` beside those in use."""
        self.root = root
        self.progress = ""  # what is being downloaded and how far it is
        self._contract_hash, self._keep = contract_hash, keep
        self._used: frozenset[Path] = frozenset()

    def fetch(self, url: str, sha256: str = "", stopped: Stopped = lambda: False) -> Path:
        """Return the directory of a copy of the checkpoint at `url`, downloaded if it is not here yet.

        `sha256` is that of the manifest as announced. Looks at `stopped` after every block. Unreachable if another
        attempt may go on from here, else AloeError; both say in one sentence why.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._alone(stopped):
                return self._fetch(open_remote(url), shown(url).rstrip("/"), sha256, stopped)
        except OSError as error:
            raise AloeError(f"{self.root}: checkpoints cannot be kept there ({error.strerror}).") from error
        finally:
            self.progress = ""

    def prune(self, used: Collection[Path]) -> None:
        """Remove all but the directories in use and the newest others; AloeError if one cannot be removed."""
        self._used = frozenset(used)
        if self.root.is_dir():
            try:
                with self._alone(lambda: True):
                    self._prune(self._keep)
            except _Busy:
                return  # another process downloads, and will prune
            except OSError as error:
                raise AloeError(f"{self.root}: old checkpoints cannot be removed ({error.strerror}).") from error

    def _fetch(self, remote: RemoteFolder, url: str, sha256: str, stopped: Stopped) -> Path:
        content = read_small(remote, MANIFEST)
        digest = hashlib.sha256(content).hexdigest()
        if sha256 and digest != sha256:
            raise AloeError(f"{url}: the manifest is not the one announced (sha256 differs); publish it again.")
        manifest = parse_manifest(content, f"{url}/{MANIFEST}")
        if self._contract_hash is not None:
            check_contract(manifest, self._contract_hash, url)
        final = self.root / f"{manifest.version}.{digest[:12]}"
        if final.is_dir():
            try:
                verify_checkpoint(final, expect_sha256=digest)
                os.utime(final)
                return final
            except AloeError:  # the disk spoilt it: it is downloaded again
                shutil.rmtree(final)
        partial = self.root / f"{PARTIAL}{final.name}"
        partial.mkdir(exist_ok=True)
        self._make_room(manifest, partial, url)
        for name, entry in manifest.files.items():
            self._file(remote, partial / name, entry, url, stopped)
        (partial / MANIFEST).write_bytes(content)
        fsync(partial / MANIFEST)
        fsync(partial)
        os.utime(partial)
        os.rename(partial, final)
        fsync(self.root)
        for old in self.root.glob(f"{PARTIAL}*"):  # what a newer checkpoint has overtaken
            shutil.rmtree(old)
        return final

    def _file(self, remote: RemoteFolder, path: Path, entry: FileEntry, url: str, stopped: Stopped) -> None:
        """Bring one file to its promised content; a kept part that turns out wrong is dropped and asked for again."""
        kept = path.stat().st_size if path.is_file() else 0
        for again in (kept > 0, False):
            self._transfer(remote, path, entry, url, stopped)
            try:
                verify_file(path, entry)
                return
            except AloeError:
                path.unlink()
            if not again:
                break
        raise AloeError(
            f"{url}/{path.name}: what the server sends is not what its {MANIFEST} promises (size or sha256 differs); "
            "publish it again."
        )

    def _transfer(self, remote: RemoteFolder, path: Path, entry: FileEntry, url: str, stopped: Stopped) -> None:
        with open(path, "ab") as file:
            have = file.tell()
            if have < entry.size or not entry.size:
                for offset, block in remote.blocks(path.name, have):
                    if offset < have:  # the server began anew
                        file.truncate(offset)
                    file.write(block)
                    have = offset + len(block)
                    self.progress = f"{path.parent.name.removeprefix(PARTIAL)}/{path.name} {have} of {entry.size} bytes"
                    if have > entry.size:
                        return
                    if stopped():
                        raise AloeError(f"{url}: given up at {have} of {entry.size} bytes of {path.name}.")
            file.flush()
            os.fsync(file.fileno())
        if have < entry.size:
            raise Unreachable(
                f"{url}/{path.name}: the server stopped after {have} of {entry.size} bytes; what came is kept."
            )

    def _make_room(self, manifest: Manifest, partial: Path, url: str) -> None:
        here = sum(file.stat().st_size for file in partial.iterdir())
        needed = max(0, sum(entry.size for entry in manifest.files.values()) - here) + _RESERVE
        if shutil.disk_usage(self.root).free < needed:
            self._prune(0, partial)
        free = shutil.disk_usage(self.root).free
        if free < needed:
            raise AloeError(
                f"{url}: {free / 2**20:.0f} MiB left on the disk of {self.root}: expected {needed / 2**20:.0f} MiB."
            )

    def _prune(self, keep: int, partial: Path | None = None) -> None:
        """Remove all but `keep` of the copies that are not in use, and every part but `partial` if there is one."""
        old = [path for path in self.root.iterdir() if _COPY.match(path.name) and path.is_dir()]  # nobody else's
        spare = sorted((p for p in old if p not in self._used), key=lambda p: p.stat().st_mtime, reverse=True)
        parts = [p for p in self.root.glob(f"{PARTIAL}*") if p != partial] if partial else []
        for path in (*spare[keep:], *parts):
            shutil.rmtree(path)

    @contextmanager
    def _alone(self, stopped: Stopped) -> Iterator[None]:
        """Hold the folder's lock; waits for another process until `stopped`."""
        pause = threading.Event()
        with open(self.root / _LOCK, "w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if stopped():
                        raise _Busy(f"{self.root}: another process is downloading into this folder.") from None
                    pause.wait(_LOCK_PERIOD)
            yield


class _Busy(AloeError):
    """Another process holds the lock."""

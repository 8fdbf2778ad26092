"""A replay store: a folder of append-only files that holds episodes in the form learners read.

    store.json      format, contract and what is kept of the frames; written once
    journal.jsonl   one record for each episode or bag set aside; the last record of a bag counts
    blocks.bin      the arrays of each episode, memory-mapped
    frames.bin      the frames of each episode: JPEG as recorded, or float16 features
    view-<stride>   the tables a learner draws from, see index.py; may be removed

Data reach the disk before the record that names them: a process killed at any moment leaves whole episodes and a tail
that the next writer cuts off. What a changed bag or a new record supersedes stays as dead bytes.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_core.episode.files import sync_directory
from aloe_core.errors import AloeError
from aloe_critic.replay import journal
from aloe_critic.replay.check import check_episode, failed_check
from aloe_critic.replay.entries import FORMAT, Entries, parse
from aloe_critic.replay.frames import decode, decode_episode
from aloe_critic.replay.layout import Entry, Payloads, groups_of, pack, unpack

HEAD, JOURNAL, BLOCKS, FRAMES, LOCK = "store.json", "journal.jsonl", "blocks.bin", "frames.bin", "lock"
COMMIT_SECONDS = 1.0
COMMIT_BYTES = 64 << 20


@dataclass(frozen=True)
class FrameEncoder:
    """A frozen encoder whose features are kept in place of the images."""

    name: str  # and version: features of another encoder are another store
    dim: int
    encode: Callable[[str, np.ndarray], np.ndarray]  # camera, RGB uint8 [n, H, W, 3] -> float [n, dim]


class ReplayStore:
    """Episodes on disk. Many may read; one at a time appends, within `appending()`."""

    def __init__(self, folder: str | Path, contract: RobotContract, encoder: FrameEncoder | None = None) -> None:
        """Open the store, or create it; AloeError if the folder holds something else or another contract's store."""
        self.folder, self.contract, self.encoder = Path(folder), contract, encoder
        self.entries = Entries(self.folder / JOURNAL)
        self._ends = (0, 0)
        self._journal_end = 0
        self._map: mmap.mmap | None = None
        self._payloads: Payloads | None = None
        self._writer: _Writer | None = None
        self._open_head()
        self.reload()

    @property
    def feature_dim(self) -> int:
        """Width of the features kept of each frame, 0 where JPEG is kept."""
        return self.encoder.dim if self.encoder else 0

    def reload(self) -> None:
        """Take note of what another process has committed."""
        sizes = tuple(_size(self.folder / name) for name in (BLOCKS, FRAMES))
        self.entries, self._ends, self._journal_end = Entries(self.folder / JOURNAL), (0, 0), 0
        for record, end in journal.read(self.folder / JOURNAL):
            entry = parse(record, self.folder)
            ends = max(self._ends[0], entry.ends[0]), max(self._ends[1], entry.ends[1])
            if ends[0] > sizes[0] or ends[1] > sizes[1]:
                break  # its data never reached the disk, nor did those of what follows
            self.entries.note(entry.bag, self._journal_end)
            self._ends = ends
            self._journal_end = end
        self._map = self._payloads = None

    def known(self, bag: str, signature: str) -> Entry | None:
        """Return what is committed of this bag in its present state, None if it must be read."""
        entry = self.entries.get(bag)
        return entry if entry is not None and entry.signature == signature else None

    def episode(self, entry: Entry) -> EpisodeData:
        """Return an episode whose arrays lie in the memory-mapped file."""
        block = memoryview(self._mapped())[entry.at : entry.at + entry.size]
        return unpack(entry, self.contract, block, self.payloads())

    def verify(self) -> list[str]:
        """Read every byte; return a sentence for each episode that is not as it was written."""
        found = []
        for entry in self.entries.values():
            if entry.reason:
                continue
            block = self._mapped()[entry.at : entry.at + entry.size]
            if zlib.crc32(block) != entry.crc or self.payloads().checksum(entry) != entry.payload_crc:
                found.append(f"{self.folder}: the data of {entry.bag} are not as they were written (CRC).")
        return found

    def release(self) -> None:
        """Let go of the pages that reading the arrays has made resident; they stay in the system's page cache."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    @contextmanager
    def appending(self) -> Iterator[ReplayStore]:
        """Hold the store for appending; commits at the end. AloeError if another process holds it."""
        with _locked(self.folder):
            self.reload()
            try:
                self._writer = _Writer(self.folder, self._journal_end, self._ends)
                try:
                    yield self
                    self.commit()
                finally:
                    self._writer.close()
                    self._writer = None
            except OSError as error:
                raise AloeError(f"{self.folder}: the replay store cannot be written ({error.strerror}).") from error

    def append(self, bag: str, signature: str, ep: EpisodeData) -> None:
        """Keep an episode; AloeError if it does not fit the contract, misses a camera or has a damaged frame."""
        check_episode(ep, self.contract)
        decode_episode(ep, self.contract)
        block, payload, details = pack(ep, {camera: self._kept(ep, camera) for camera in self.contract.camera_names})
        entry = Entry(
            bag,
            signature,
            episode_id=ep.episode_id,
            task=ep.task,
            instruction=ep.instruction,
            seed=ep.seed,
            outcome=int(ep.outcome),
            end=ep.end,
            dt=ep.dt,
            steps=ep.steps,
            frames=tuple(len(ep.frames[camera].jpegs) for camera in self.contract.camera_names),
            breaks=tuple(map(int, ep.breaks)),
            at=self._writing().ends[0],
            size=len(block),
            crc=zlib.crc32(block),
            payload_at=self._writing().ends[1],
            payload_size=len(payload),
            payload_crc=zlib.crc32(payload),
            details=details,
            groups=groups_of(ep),
            failed=failed_check(ep),
        )
        self._writing().put(entry, block, payload)
        self._commit_if_due()

    def share(self, entry: Entry, bag: str, signature: str) -> None:
        """Know a committed episode under another name as well; both share its data."""
        self._writing().put(replace(entry, bag=bag, signature=signature), b"", b"")
        self._commit_if_due()

    def set_aside(self, bag: str, signature: str, reason: str) -> None:
        """Remember why this bag, in its present state, is of no use."""
        self._writing().put(Entry(bag, signature, reason), b"", b"")
        self._commit_if_due()

    def commit(self) -> None:
        """Put what was appended on disk, then the records that make it count."""
        for entry, position in self._writing().commit():
            self.entries.note(entry.bag, position)
            self._ends = max(self._ends[0], entry.ends[0]), max(self._ends[1], entry.ends[1])

    def _commit_if_due(self) -> None:
        if self._writing().due():
            self.commit()

    def _writing(self) -> _Writer:
        if self._writer is None:
            raise AloeError(f"{self.folder}: episodes are appended within appending() only.")
        return self._writer

    def _kept(self, ep: EpisodeData, camera: str) -> list[bytes]:
        frames = ep.frames[camera]
        if self.encoder is None:
            return list(frames.jpegs)
        spec = self.contract.camera(camera)
        what, size = f"Episode {ep.episode_id}, camera {camera!r}", (spec.height, spec.width)
        features = self.encoder.encode(camera, np.stack([decode(jpeg, what, size) for jpeg in frames.jpegs]))
        if features.shape != (len(frames.jpegs), self.encoder.dim) or not np.isfinite(features).all():
            raise AloeError(
                f"{what}: features of {self.encoder.name} have shape {features.shape}: "
                f"expected finite {(len(frames.jpegs), self.encoder.dim)}."
            )
        return [row.astype("<f2").tobytes() for row in features]

    def _mapped(self) -> mmap.mmap:
        if self._map is None or len(self._map) < self._ends[0]:
            with (self.folder / BLOCKS).open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), self._ends[0], access=mmap.ACCESS_READ)
        return self._map

    def payloads(self) -> Payloads:
        """Return the file of frames."""
        if self._payloads is None:
            self._payloads = Payloads(os.open(self.folder / FRAMES, os.O_RDONLY), self.folder / FRAMES)
        return self._payloads

    def _open_head(self) -> None:
        wanted = {
            "format": FORMAT,
            "contract": self.contract.name,
            "contract_hash": self.contract.hash,
            "frames": f"features {self.encoder.name} {self.encoder.dim}" if self.encoder else "jpeg",
        }
        path = self.folder / HEAD
        try:
            if not path.is_file():
                _create(self.folder, wanted)
            head = json.loads(path.read_bytes())
        except OSError as error:
            raise AloeError(f"{self.folder}: cannot be used as replay store ({error.strerror}).") from error
        except ValueError as error:
            raise AloeError(f"{path}: not the head of a replay store.") from error
        for key, value in wanted.items():
            found = head.get(key) if isinstance(head, dict) else None
            if found != value and key != "contract":
                raise AloeError(f"{self.folder}: replay store with {key} = {found!r}: expected {value!r}.")


class _Writer:
    """The append-only files, cut to what is committed."""

    def __init__(self, folder: Path, journal_end: int, ends: tuple[int, int]) -> None:
        self.ends = ends  # including what is not committed yet
        self._files = [_open(folder / name, end) for name, end in ((BLOCKS, ends[0]), (FRAMES, ends[1]))]
        self._journal = _open(folder / JOURNAL, journal_end)
        self._pending: list[Entry] = []
        self._committed = time.monotonic()
        self._bytes = 0
        sync_directory(folder)

    def put(self, entry: Entry, block: bytes, payload: bytes) -> None:
        """Append an episode, or an entry alone."""
        for file, data in zip(self._files, (block, payload), strict=True):
            _write(file, data)
        self.ends = self.ends[0] + len(block), self.ends[1] + len(payload)
        self._bytes += len(block) + len(payload)
        self._pending.append(entry)

    def due(self) -> bool:
        """Return whether a crash would cost too much by now."""
        return self._bytes > COMMIT_BYTES or time.monotonic() - self._committed > COMMIT_SECONDS

    def commit(self) -> list[tuple[Entry, int]]:
        """Make what was put durable and return it, with the byte of the journal where each record begins."""
        lines = [journal.line(asdict(entry)) for entry in self._pending]
        begin = np.cumsum([self._journal.tell(), *map(len, lines)])[: len(lines)].tolist()
        if lines:
            for file in self._files:
                os.fsync(file.fileno())
            _write(self._journal, b"".join(lines))
            os.fsync(self._journal.fileno())
        done, self._pending, self._bytes = list(zip(self._pending, begin, strict=True)), [], 0
        self._committed = time.monotonic()
        return done

    def close(self) -> None:
        for file in (*self._files, self._journal):
            file.close()


def _open(path: Path, size: int) -> FileIO:
    file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
    file.truncate(size)
    file.seek(size)
    return file


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _create(folder: Path, head: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    strange = sorted({path.name for path in folder.iterdir()} - {LOCK, HEAD + ".tmp"})
    if strange:
        raise AloeError(f"{folder}: not a replay store, and not empty (it holds {strange[0]}): name another folder.")
    with _locked(folder):
        temporary = folder / (HEAD + ".tmp")
        with temporary.open("w") as stream:
            json.dump(head, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(folder / HEAD)
        sync_directory(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        stream = (folder / LOCK).open("a+")
    except OSError as error:
        raise AloeError(f"{folder}: the replay store cannot be written ({error.strerror}).") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AloeError(f"{folder}: another process is appending to this replay store; wait for it.") from error
        yield

"""How an episode lies in the files of a store: a block of arrays, a payload of frames, and the entry naming both."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Frames, Outcome
from aloe_core.errors import AloeError


@dataclass(frozen=True)
class Entry:
    """One record of the journal: an episode, or (with a `reason`) a bag that was set aside."""

    bag: str  # path or URL
    signature: str  # of the bag's files; another one is another bag
    reason: str = ""
    episode_id: str = ""
    task: str = ""
    instruction: str = ""
    seed: int = 0
    outcome: int = 0
    end: str = ""
    dt: float = 0.0
    steps: int = 0
    frames: tuple[int, ...] = ()  # of each camera, in contract order
    breaks: tuple[int, ...] = ()
    at: int = 0  # bytes, in the file of blocks
    size: int = 0
    crc: int = 0
    payload_at: int = 0  # bytes, in the file of payloads
    payload_size: int = 0
    payload_crc: int = 0
    details: int = 0  # bytes at the end of the payload: chunk ids and policy versions, JSON
    groups: int = 0  # joint groups whose source is told apart
    failed: str = ""  # what the take's quality check found wrong; empty: nothing, or nobody checked

    @property
    def ends(self) -> tuple[int, int]:
        """Bytes that the files must have."""
        return self.at + self.size, self.payload_at + self.payload_size


Array = tuple[str, str, tuple[int, ...]]  # name, dtype, shape


def arrays(steps: int, joints: int, frames: Sequence[int], groups: int) -> Iterator[Array]:
    """Yield the arrays of a block in order; the widest come first, so that all are aligned."""
    yield "stamps", "<i8", (steps + 1,)
    for camera, count in enumerate(frames):
        yield f"frame_stamps_{camera}", "<i8", (count,)
        yield f"frame_ends_{camera}", "<i8", (count + 1,)  # offsets in the payload; the first is where frame 0 begins
    yield "state", "<f4", (steps + 1, joints)
    for name in ("requested", "executed"):
        yield name, "<f4", (steps, joints)
    for name in ("chunk", "chunk_index"):
        yield name, "<i4", (steps,)
    yield "source", "u1", (steps,)
    if groups:
        yield "group_source", "u1", (steps, groups)


def pack(ep: EpisodeData, kept: Mapping[str, Sequence[bytes]]) -> tuple[bytes, bytes, int]:
    """Return block, payload and the size of the details; `kept`: the frames of each camera, in contract order."""
    values = {name: getattr(ep, name) for name in ("stamps", "state", "requested", "executed", "chunk", "chunk_index")}
    values |= {"source": ep.source, "group_source": ep.group_source}
    position = 0
    for number, (camera, frames) in enumerate(kept.items()):
        ends = position + np.cumsum([0, *map(len, frames)])
        values |= {f"frame_stamps_{number}": ep.frames[camera].stamps, f"frame_ends_{number}": ends}
        position = int(ends[-1])
    details = json.dumps([ep.chunk_ids, ep.policy_versions]).encode()
    parts = []
    counts = [len(frames) for frames in kept.values()]
    for name, dtype, shape in arrays(ep.steps, ep.executed.shape[1], counts, groups_of(ep)):
        value = np.ascontiguousarray(values[name], dtype)
        if value.shape != shape:
            raise AloeError(f"Episode {ep.episode_id}: {name} has shape {value.shape}: expected {shape}.")
        parts.append(value.tobytes())
    block = b"".join(parts)
    block += bytes(-len(block) % 8)
    return block, b"".join(frame for frames in kept.values() for frame in frames) + details, len(details)


def groups_of(ep: EpisodeData) -> int:
    """Return how many joint groups the episode tells apart, 0 if none."""
    return 0 if ep.group_source is None else ep.group_source.shape[1]


def unpack(entry: Entry, contract: RobotContract, block: memoryview, payloads: Payloads) -> EpisodeData:
    """Return an episode whose arrays are views of `block` and whose frames are read when asked for."""
    found, offset = {}, 0
    for name, dtype, shape in arrays(entry.steps, contract.action_dim, entry.frames, entry.groups):
        count = int(np.prod(shape))
        found[name] = np.frombuffer(block, dtype, count, offset).reshape(shape)
        offset += found[name].nbytes
    frames = {}
    for number, camera in enumerate(contract.camera_names):
        jpegs = StoredFrames(payloads, entry, found.pop(f"frame_ends_{number}"))
        frames[camera] = Frames(found.pop(f"frame_stamps_{number}"), jpegs)  # type: ignore[arg-type]
    return EpisodeData(
        episode_id=entry.episode_id,
        task=entry.task,
        instruction=entry.instruction,
        seed=entry.seed,
        outcome=Outcome(entry.outcome),
        end=entry.end,
        contract_hash=contract.hash,
        dt=entry.dt,
        frames=frames,
        chunk_ids=StoredTexts(payloads, entry, 0),  # type: ignore[arg-type]
        policy_versions=StoredTexts(payloads, entry, 1),  # type: ignore[arg-type]
        breaks=entry.breaks,
        info={"path": entry.bag},
        **found,
    )


class Payloads:
    """The file of payloads, read piece by piece: a mapping would count every page once touched as resident."""

    def __init__(self, descriptor: int, path: object) -> None:
        self._descriptor, self._path = descriptor, path

    def read(self, at: int, size: int) -> bytes:
        """Return `size` bytes; AloeError if they are not there."""
        try:
            data = os.pread(self._descriptor, size, at)
        except OSError as error:
            raise AloeError(f"{self._path}: cannot be read ({error.strerror}).") from error
        if len(data) != size:
            raise AloeError(f"{self._path}: ends at byte {at + len(data)}: expected {at + size} or more.")
        return data

    def checksum(self, entry: Entry) -> int:
        """Return the CRC of an episode's payload."""
        return zlib.crc32(self.read(entry.payload_at, entry.payload_size))

    def __del__(self) -> None:
        os.close(self._descriptor)


class StoredFrames(Sequence[bytes]):
    """The frames of one camera in one episode, read when indexed."""

    def __init__(self, payloads: Payloads, entry: Entry, ends: np.ndarray) -> None:
        self._payloads, self._at, self._ends = payloads, entry.payload_at, ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def places(self) -> np.ndarray:
        """Where each frame begins in the file of payloads, and its bytes, int64 [F, 2]."""
        return np.stack([self._at + self._ends[:-1], np.diff(self._ends)], 1)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        begin, end = int(self._ends[at]), int(self._ends[at + 1])
        return self._payloads.read(self._at + begin, end - begin)


class StoredTexts(Sequence[str]):
    """Chunk ids or policy versions of one episode; learners have no use for them, so they are read when asked for."""

    def __init__(self, payloads: Payloads, entry: Entry, which: int) -> None:
        self._payloads, self._entry, self._which = payloads, entry, which

    def _read(self) -> list[str]:
        entry = self._entry
        data = self._payloads.read(entry.payload_at + entry.payload_size - entry.details, entry.details)
        texts: list[str] = json.loads(data)[self._which]
        return texts

    def __len__(self) -> int:
        return len(self._read())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._read()[index]

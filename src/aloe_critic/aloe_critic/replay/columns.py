"""Arrays that grow at their end: in memory, or in files that are mapped when they are read."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aloe_core.errors import AloeError

WRITE_BYTES = 1 << 20  # gathered before a file is written
Spec = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> dtype and shape of a row


class Column(Protocol):
    """Rows of one kind."""

    def __len__(self) -> int: ...
    def append(self, part: np.ndarray) -> None:
        """Add rows."""

    def tensor(self) -> Tensor:
        """Return all rows; not to be written to."""

    def release(self) -> None:
        """Let go of memory that can be read again."""


class MemoryColumn:
    """Parts that are joined when they are read."""

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self._parts = [np.empty((0, *shape), dtype)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, part: np.ndarray) -> None:
        self._parts.append(part.astype(self._parts[0].dtype, copy=False))
        self._count += len(part)

    def tensor(self) -> Tensor:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return torch.from_numpy(self._parts[0])

    def release(self) -> None:
        pass


class FileColumn:
    """Rows in a file. What is read of it is the system's page cache, which `release` stops counting as ours."""

    def __init__(self, file: FileIO, dtype: str, shape: tuple[int, ...], count: int = 0) -> None:
        """`count`: rows that are there; the file is written after them."""
        self._file, self._count = file, count
        self._dtype, self._shape = np.dtype(dtype), shape
        self._row = row_bytes(dtype, shape)
        self._pending = bytearray()
        self._map: mmap.mmap | None = None
        self._mapped = -1
        self._tensor = torch.empty(0)

    def __len__(self) -> int:
        return self._count

    @property
    def bytes(self) -> int:
        return self._count * self._row

    def append(self, part: np.ndarray) -> None:
        self._pending += np.ascontiguousarray(part, self._dtype).tobytes()
        self._count += len(part)
        if len(self._pending) > WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was appended to the system."""
        if self._pending:
            self._file.seek(self._count * self._row - len(self._pending))
            view = memoryview(bytes(self._pending))
            while len(view):
                view = view[self._file.write(view) :]
            self._pending.clear()

    def fileno(self) -> int:
        return self._file.fileno()

    def tensor(self) -> Tensor:
        if self._mapped != self._count:
            self.flush()
            if self._count:
                # Copy on write: torch knows no read-only tensors.
                self._map = mmap.mmap(self._file.fileno(), self.bytes, access=mmap.ACCESS_COPY)
                array = np.frombuffer(self._map, self._dtype, self.bytes // self._dtype.itemsize)
            else:
                array = np.empty(0, self._dtype)
            self._tensor = torch.from_numpy(array.reshape(self._count, *self._shape))
            self._mapped = self._count
        return self._tensor

    def release(self) -> None:
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)


def row_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the bytes that a row takes in a file."""
    return np.dtype(dtype).itemsize * int(np.prod(shape))


def scratch(folder: Path, dtype: str, shape: tuple[int, ...] = ()) -> FileColumn:
    """Return a column in a file without a name, which is gone when the column is; AloeError if it cannot be made."""
    try:
        # A descriptor of its own: the temporary file's object would close it.
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            return FileColumn(FileIO(os.dup(file.fileno()), "r+"), dtype, shape)
    except OSError as error:
        raise AloeError(f"{folder}: the replay's tables cannot be written ({error.strerror}).") from error

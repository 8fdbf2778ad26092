"""Messages of the openpi websocket protocol: msgpack with NumPy arrays (openpi_client.msgpack_numpy), no pickle."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

MAX_BYTES = 256 * 2**20  # of one message; eight uncompressed 4K images fit

_REFUSED_KINDS = "VOc"  # void, object and complex: openpi sends none of them


def pack(message: Any) -> bytes:
    """Return the bytes of a message: dict, list, str, number, NumPy array or scalar; ValueError for other dtypes."""
    return msgpack.packb(message, default=_encode)


def unpack(data: bytes) -> Any:
    """Return the message; arrays are read-only views of `data`. ValueError if it is not a whole, sound message."""
    try:
        return msgpack.unpackb(data, object_hook=_decode)
    except (msgpack.UnpackException, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a message of the openpi protocol ({' '.join(str(error).split())})") from error


def _encode(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in _REFUSED_KINDS:
        raise ValueError(f"dtype {value.dtype} cannot be sent")
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _decode(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        dtype, shape, data = _dtype(value), value[b"shape"], value[b"data"]
        if not all(isinstance(n, int) and n >= 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"{len(data)} bytes are no {dtype} array of shape {shape}")
        return np.ndarray(buffer=data, dtype=dtype, shape=shape)
    if b"__npgeneric__" in value:
        return _dtype(value).type(value[b"data"])
    return value


def _dtype(value: dict[Any, Any]) -> np.dtype:
    dtype = np.dtype(value[b"dtype"])
    if dtype.kind in _REFUSED_KINDS:
        raise ValueError(f"dtype {dtype} is not accepted")
    return dtype

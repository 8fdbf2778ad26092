import contextlib

import hypothesis.strategies as st
import msgpack
import numpy as np
import pytest
from hypothesis import given

from aloe_policy.remote import wire

DTYPES = st.sampled_from(["u1", "i4", "<i8", "<f4", "<f8", "?", ">f4"])


@st.composite
def arrays(draw):
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    data = draw(st.binary(min_size=8 * 64, max_size=8 * 64))
    dtype = np.dtype(draw(DTYPES))
    count = int(np.prod(shape))
    flat = np.frombuffer(data, "u1")[:count] % 2 if dtype.kind == "b" else np.frombuffer(data, dtype, count)
    return flat.astype(dtype).reshape(shape)


@given(arrays())
def test_an_array_arrives_as_it_was(array):
    arrived = wire.unpack(wire.pack({"observation/image": array}))["observation/image"]
    assert arrived.dtype == array.dtype and arrived.shape == array.shape
    assert arrived.tobytes() == array.tobytes()


def test_an_array_is_laid_out_as_openpi_lays_it_out():
    """The fields of openpi_client.msgpack_numpy, read with msgpack alone."""
    plain = msgpack.unpackb(wire.pack({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "s": np.float32(2.5)}))
    assert plain["a"] == {
        b"__ndarray__": True,
        b"data": np.arange(6, dtype="<f4").tobytes(),
        b"dtype": "<f4",
        b"shape": [2, 3],
    }
    assert plain["s"] == {b"__npgeneric__": True, b"data": 2.5, b"dtype": "<f4"}


@pytest.mark.parametrize("value", [np.array([object()]), np.array([1j]), np.zeros(1, "V8")])
def test_objects_do_not_leave(value):
    with pytest.raises(ValueError, match="cannot be sent"):
        wire.pack({"x": value})


def array_of(dtype, data=b"12345678", shape=(1,)):
    return msgpack.packb({"x": {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        wire.pack({"x": np.zeros(4)})[:-3],
        wire.pack({"x": 1}) + b"x",
        array_of("|O"),
        array_of("c8"),
        array_of("no such type"),
        array_of("<f8", b"1234"),
        array_of("<f8", shape=(-1,)),
        array_of("<f8", shape="x"),
        msgpack.packb({"x": {b"__ndarray__": True}}),
        msgpack.packb({1: {}}),
    ],
)
def test_what_is_no_sound_message_is_refused(data):
    with pytest.raises(ValueError):
        wire.unpack(data)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_message_or_refused(data):
    with contextlib.suppress(ValueError):
        wire.unpack(data)

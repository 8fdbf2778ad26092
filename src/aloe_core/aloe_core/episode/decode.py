"""Decodes CDR by the definitions a bag embeds, so that bags outlive changes of the messages."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rosbags.serde.errors import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from aloe_core.episode.scan import Schema
from aloe_core.errors import AloeError


class Decoder:
    """Turns message bytes into objects with the fields of the embedded definitions (arrays are numpy)."""

    def __init__(self, file: object, schemas: Iterable[Schema]) -> None:
        """`file` is what errors name; AloeError if a definition cannot be read."""
        self._file = file
        texts = frozenset((schema.name, schema.text) for schema in schemas if schema.encoding == "ros2msg")
        try:
            self._store = _store(texts)
        except TypesysError as error:
            raise AloeError(f"{file}: message definitions cannot be read ({error}).") from error

    def __call__(self, data: memoryview, type_name: str) -> Any:
        """Return the message; AloeError if the bytes do not fit the definition."""
        try:
            return self._store.deserialize_cdr(data, type_name)
        except (SerdeError, KeyError) as error:
            raise AloeError(f"{self._file}: a {type_name} does not fit its definition ({error}).") from error


def stamp_ns(header: Any) -> int:
    """Return the stamp of a std_msgs/Header, ns."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


@lru_cache(maxsize=16)
def _store(texts: frozenset[tuple[str, str]]) -> Typestore:
    store = get_typestore(Stores.EMPTY)
    types = {}
    for name, text in texts:
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store

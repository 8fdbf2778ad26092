"""Types of `<param>` values, by the rules of launch_ros."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from aloe_cli.launch import substitution
from aloe_core.errors import AloeError

Scalar = bool | int | float | str
Value = Scalar | list[Scalar]
SCALARS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
LISTS = {f"list_of_{name}": kind for name, kind in SCALARS.items()}
_NO_EMPTY_LIST = "an empty list has no type; leave the parameter out."
_INT64 = range(-(2**63), 2**63)


def evaluate(raw: str, kind: str | None, text_of: Callable[[str], str]) -> Value:
    """Return the typed value of attribute `raw`; `text_of` performs the substitutions of a text.

    Without `kind` (or with "yaml") YAML decides, before and again after substitution, so `'$(var n)'` follows the
    value of n; name the type to fix it. AloeError (without a location) says what does not fit.
    """
    if kind in SCALARS:
        return _coerce(text_of(raw), SCALARS[kind])
    if kind in LISTS:
        items = _load(raw)
        if not isinstance(items, list):
            raise AloeError(f"value {raw!r} is not a list; a list that comes from a substitution needs type yaml.")
        if not items:
            raise AloeError(_NO_EMPTY_LIST)
        return [_list_item(item, LISTS[kind], text_of) for item in items]
    if kind not in (None, "yaml"):
        raise AloeError(f"type {kind!r} is unknown; use one of {', '.join([*SCALARS, *LISTS, 'yaml'])}.")
    loaded = _load(raw)
    if isinstance(loaded, list):
        return _uniform([_item(item, text_of) for item in loaded])
    return _item(loaded, text_of, of=raw)


def _list_item(item: object, kind: type, text_of: Callable[[str], str]) -> Scalar:
    if isinstance(item, str) and (kind is str or not substitution.is_plain(substitution.parse(item))):
        return _coerce(text_of(item), kind)
    return _exact(item, kind)


def _item(loaded: object, text_of: Callable[[str], str], of: str = "") -> Value:
    if isinstance(loaded, str) and substitution.is_plain(substitution.parse(loaded)):
        return text_of(loaded)
    if isinstance(loaded, str):
        loaded = _load(text_of(loaded))
    if isinstance(loaded, list):
        return _uniform(loaded)
    if not isinstance(loaded, (bool, int, float, str)):
        raise AloeError(f"value {of or loaded!r} is no bool, int, float, string or list of one of them.")
    return _in_range(loaded)


def _load(text: str) -> object:
    if not text:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _coerce(text: str, kind: type) -> Scalar:
    if kind is str:
        return text
    try:
        if kind is bool:
            return _exact(_load({"1": "true", "0": "false"}.get(text, text)), bool)
        return _in_range(kind(text))
    except ValueError:
        raise AloeError(f"value {text!r} is no {kind.__name__}.") from None


def _exact(value: object, kind: type) -> Scalar:
    if type(value) is not kind:
        raise AloeError(f"value {value!r} is no {kind.__name__}.")
    return _in_range(value)  # type: ignore[arg-type]


def _uniform(items: list[object]) -> list[Scalar]:
    if not items:
        raise AloeError(_NO_EMPTY_LIST)
    kinds = {type(item) for item in items}
    if len(kinds) != 1 or not kinds <= set(SCALARS.values()):
        names = ", ".join(sorted(k.__name__ for k in kinds))
        raise AloeError(f"a list must hold values of one type (bool, int, float or string), this one holds {names}.")
    return [_in_range(item) for item in items]  # type: ignore[arg-type]


def _in_range(value: Scalar) -> Scalar:
    if type(value) is int and value not in _INT64:
        raise AloeError(f"value {value} does not fit a 64-bit integer.")
    return value

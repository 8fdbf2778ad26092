"""YAML files into validated settings; every complaint names file, key, value and expectation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from aloe_core.errors import AloeError, bad_value

SettingsT = TypeVar("SettingsT", bound=BaseModel)


def load_settings(path: str | Path, kind: type[SettingsT], expected: str = "a mapping") -> SettingsT:
    """Read settings of `kind`; AloeError says what is wrong, `expected` what the document should have been."""
    data = read_yaml(path, expected)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"]) or "(document)"
        value = first["input"] if not isinstance(first["input"], (dict, list)) else "…"
        wanted = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise bad_value(path, key, value, wanted) from error


def read_yaml(path: str | Path, expected: str = "a mapping") -> dict[str, Any]:
    """Return the mapping that a file holds; AloeError if it cannot be read or holds anything else."""
    try:
        data = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise AloeError(f"{path}: cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise AloeError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(data, dict):
        raise bad_value(path, "(document)", type(data).__name__, expected)
    return data

"""YAML files into validated settings."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from aloe_core.errors import AloeError, bad_value

SettingsT = TypeVar("SettingsT", bound=BaseModel)


def load(path: str | Path, kind: type[SettingsT]) -> SettingsT:
    """Read settings of `kind`; AloeError names file, key, value and expectation."""
    try:
        data = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise AloeError(f"{path}: cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise AloeError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(data, dict):
        raise bad_value(path, "(document)", type(data).__name__, "a mapping")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"]) or "(document)"
        expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise bad_value(path, key, first["input"], expected) from error

"""Hyperparameters given as KEY=VALUE on the command line."""

from __future__ import annotations

from typing import Any

import yaml

from aloe_core.errors import AloeError


def parse(words: list[str] | None) -> dict[str, Any]:
    """Return what `--set KEY=VALUE` options say, values read as YAML; AloeError names the word that is not one."""
    overrides = {}
    for word in words or []:
        key, separator, value = word.partition("=")
        if not (key and separator):
            raise AloeError(f"--set {word!r}: expected KEY=VALUE.")
        overrides[key] = yaml.safe_load(value)
    return overrides

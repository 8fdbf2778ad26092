"""Finds packages and their executables through AMENT_PREFIX_PATH, without needing a ROS import."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from aloe_core.errors import AloeError

_INDEX = Path("share/ament_index/resource_index/packages")


def prefix(package: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the prefix in which `package` is installed; AloeError if it is nowhere."""
    prefixes = [Path(p) for p in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if not prefixes:
        raise AloeError("AMENT_PREFIX_PATH is empty, so no package can be found; run through ./aloe.")
    for candidate in prefixes:
        if (candidate / _INDEX / package).is_file():
            return candidate
    known = sorted({p.name for candidate in prefixes for p in (candidate / _INDEX).glob("*")})
    distribution = environment.get("ROS_DISTRO", "jazzy")
    remedy = (
        "run `make setup`"
        if package.startswith("aloe_")
        else f"apt install ros-{distribution}-{package.replace('_', '-')}"
    )
    raise AloeError(f"package {package!r} is not installed{suggest(package, known)}: {remedy}.")


def share(package: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the share directory of `package`; AloeError if it is not installed."""
    return prefix(package, environment) / "share" / package


def executable(package: str, name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return lib/<package>/<name>; AloeError if the package has no such executable."""
    folder = prefix(package, environment) / "lib" / package
    path = folder / name
    if path.is_file() and os.access(path, os.X_OK):
        return path
    known = sorted(p.name for p in folder.glob("*")) if folder.is_dir() else []
    raise AloeError(f"package {package!r} has no executable {name!r}{suggest(name, known)}; expected {path}.")


def suggest(word: str, known: list[str]) -> str:
    """Return ' (did you mean …?)' if something like `word` is known, else an empty text."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""

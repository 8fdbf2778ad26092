"""What a launch file can refer to at one point of its execution."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from aloe_cli.launch import packages, substitution
from aloe_cli.launch.document import Element
from aloe_core.errors import AloeError

NAMESPACE = "ros_namespace"  # configuration in which launch_ros keeps the pushed namespace
_TRUE = ("true", "1")
_FALSE = ("false", "0")
_NAMESPACE_PATTERN = re.compile(r"/|(/[A-Za-z_][A-Za-z0-9_]*)+")


@dataclass(frozen=True)
class Scope:
    """Launch configurations (mutable, shared until `nested`) and the environment of the processes."""

    environment: Mapping[str, str]
    directory: Path
    configurations: dict[str, str] = field(default_factory=dict)

    def nested(self) -> Scope:
        """Return a scope whose changes stay inside it."""
        return replace(self, configurations=dict(self.configurations))

    def inside(self, directory: Path) -> Scope:
        """Return a scope with the same configurations for a file in `directory`."""
        return replace(self, directory=directory)

    def perform(self, name: str, arguments: list[str]) -> str:
        """Return the text of substitution `name`; AloeError if what it refers to does not exist."""
        if name == "dirname":
            return str(self.directory)
        if name == "find-pkg-share":
            return str(packages.share(arguments[0], self.environment))
        if name == "find-pkg-prefix":
            return str(packages.prefix(arguments[0], self.environment))
        known = self.configurations if name == "var" else self.environment
        if arguments[0] in known:
            return known[arguments[0]]
        if len(arguments) == 2:
            return arguments[1]
        if name == "env":
            raise AloeError(f"environment variable {arguments[0]!r} is not set.")
        raise AloeError(
            f"argument {arguments[0]!r} is not declared here{packages.suggest(arguments[0], sorted(known))}."
        )

    def text(self, value: str) -> str:
        """Return `value` with its substitutions performed."""
        return substitution.evaluate(substitution.parse(value), self.perform)

    def words(self, value: str) -> list[str]:
        """Return the command line arguments in `value`."""
        return substitution.split_arguments(substitution.parse(value), self.perform)

    def attribute(self, element: Element, name: str) -> str | None:
        """Return the text of an attribute, None if it is not there; AloeError has the location."""
        value = element.attributes.get(name)
        if value is None:
            return None
        try:
            return self.text(value)
        except AloeError as error:
            raise element.error(f"<{element.tag}> {name}: {error}") from error

    def applies(self, element: Element) -> bool:
        """Evaluate `if` and `unless` of `element`."""
        for name in ("if", "unless"):
            value = self.attribute(element, name)
            if value is not None:
                return truth(element, name, value) == (name == "if")
        return True

    def namespace(self, element: Element, relative: str | None) -> str | None:
        """Return the absolute namespace of `relative` here, None if nothing sets one."""
        base = self.configurations.get(NAMESPACE)
        if relative is None:
            combined = base
        elif not base or relative.startswith("/"):
            combined = relative
        else:
            combined = f"{base.rstrip('/')}/{relative}"
        if combined is None:
            return None
        absolute = "/" + combined.strip("/")
        if "//" in combined or not _NAMESPACE_PATTERN.fullmatch(absolute):
            raise element.error(f"namespace {combined!r} is not valid; use letters, digits, underscores and slashes.")
        return absolute


def truth(element: Element, name: str, value: str) -> bool:
    """Return what a condition says; anything but true, 1, false, 0 is an error."""
    word = value.strip().lower()
    if word not in _TRUE + _FALSE:
        raise element.error(f"<{element.tag}> {name} = {value!r}: expected true, false, 1 or 0.")
    return word in _TRUE

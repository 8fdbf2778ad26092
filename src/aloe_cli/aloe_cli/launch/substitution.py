r"""Substitutions in attribute values: `text $(name argument 'quoted argument' $(nested x)) \$(literal)`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from aloe_core.errors import AloeError

ARGUMENTS = {
    "var": (1, 2),
    "env": (1, 2),
    "find-pkg-share": (1, 1),
    "find-pkg-prefix": (1, 1),
    "dirname": (0, 0),
}
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class Call:
    """`$(name arguments…)`."""

    name: str
    arguments: tuple[Template, ...]


Template = tuple["str | Call", ...]
Perform = Callable[[str, list[str]], str]  # name, evaluated arguments -> text


def parse(text: str) -> Template:
    """Return the parts of `text`; AloeError (without a location) for bad syntax or a substitution not understood."""
    return _Parser(text).template()


def evaluate(template: Template, perform: Perform) -> str:
    """Return the text of `template`, each call answered by `perform`."""
    return "".join(
        part if isinstance(part, str) else perform(part.name, [evaluate(a, perform) for a in part.arguments])
        for part in template
    )


def is_plain(template: Template) -> bool:
    """Tell whether `template` has no substitution in it."""
    return all(isinstance(part, str) for part in template)


def split_arguments(template: Template, perform: Perform) -> list[str]:
    """Split like a shell; what a substitution yields is never split."""
    calls = [part for part in template if isinstance(part, Call)]
    numbers = iter(range(len(calls)))
    text = "".join(part if isinstance(part, str) else f"\ue000{next(numbers)}\ue001" for part in template)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise AloeError(f"cannot be split into arguments ({error}).") from error
    values = [evaluate((call,), perform) for call in calls]
    return [re.sub("\ue000(\\d+)\ue001", lambda m: values[int(m.group(1))], word) for word in words]


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def template(self) -> Template:
        return self._parts(lambda: self._at >= len(self._text))

    def _parts(self, at_end: Callable[[], bool]) -> Template:
        parts: list[str | Call] = []
        literal = self._at
        while not at_end():
            if self._at >= len(self._text):
                raise self._error("is not closed")
            if self._text[self._at] == "\\":
                self._at += 2
            elif self._text.startswith("$(", self._at):
                self._literal(parts, literal)
                parts.append(self._call())
                literal = self._at
            else:
                self._at += 1
        self._at = min(self._at, len(self._text))
        self._literal(parts, literal)
        return tuple(parts)

    def _literal(self, parts: list[str | Call], start: int) -> None:
        if start < self._at:
            parts.append(_ESCAPE.sub(r"\1", self._text[start : self._at]))

    def _call(self) -> Call:
        self._at += 2
        match = _IDENTIFIER.match(self._text, self._at)
        if match is None:
            raise self._error("has no name after $(")
        name = match.group()
        self._at = match.end()
        arguments = []
        while self._peek() == " ":
            self._at += 1
            arguments.append(self._argument())
        if self._peek() != ")":
            raise self._error("is not closed")
        self._at += 1
        if name not in ARGUMENTS:
            raise AloeError(f"substitution $({name}) is not understood; use one of {', '.join(ARGUMENTS)}.")
        low, high = ARGUMENTS[name]
        if not low <= len(arguments) <= high:
            wanted = str(low) if low == high else f"{low} or {high}"
            raise AloeError(f"substitution $({name}) has {len(arguments)} arguments, expected {wanted}.")
        return Call(name, tuple(arguments))

    def _argument(self) -> Template:
        quote = self._peek()
        if quote in ("'", '"'):
            self._at += 1
            parts = self._parts(lambda: self._peek() == quote)
            self._at += 1
            return parts
        parts = self._parts(lambda: self._peek() in (" ", ")"))
        if not parts:
            raise self._error("has an empty argument")
        return parts

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _error(self, problem: str) -> AloeError:
        return AloeError(f"substitution in {self._text!r} {problem}.")

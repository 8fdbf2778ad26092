"""XML elements that remember their file and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from aloe_core.errors import AloeError


@dataclass
class Element:
    """One XML element; `line` counts from 1."""

    tag: str
    attributes: dict[str, str]
    file: Path
    line: int
    children: list[Element] = field(default_factory=list)

    def error(self, message: str) -> AloeError:
        """Return the error that names file, line and what is wrong there."""
        return AloeError(f"{self.file}:{self.line}: {message}")

    def named(self, tag: str) -> list[Element]:
        """Return the children called `tag`."""
        return [child for child in self.children if child.tag == tag]


def read(path: Path) -> Element:
    """Return the root element of `path`; AloeError if it cannot be read or is not XML."""
    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    root: list[Element] = []
    stack: list[Element] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, path, parser.CurrentLineNumber)
        (stack[-1].children if stack else root).append(element)
        stack.append(element)

    def end(_tag: str) -> None:
        stack.pop()

    def doctype(*_: object) -> None:
        raise AloeError(f"{path}:{parser.CurrentLineNumber}: <!DOCTYPE> is not understood in a launch file.")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise AloeError(f"{path}: cannot be read ({error.strerror}).") from error
    except expat.ExpatError as error:
        raise AloeError(f"{path}:{error.lineno}: not well-formed XML ({expat.ErrorString(error.code)}).") from error
    return root[0]

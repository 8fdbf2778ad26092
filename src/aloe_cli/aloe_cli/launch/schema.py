"""What of the launch XML is understood; everything else is refused by name, file and line, taken branch or not."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_cli.launch import substitution
from aloe_cli.launch.document import Element
from aloe_core.errors import AloeError


@dataclass(frozen=True)
class _Tag:
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    children: frozenset[str] = frozenset()
    literal: frozenset[str] = frozenset()  # attributes in which $(…) is not replaced


def _tag(required: str = "", optional: str = "", children: str = "", literal: str = "", action: bool = True) -> _Tag:
    conditions = " if unless" if action else ""
    return _Tag(*(frozenset(s.split()) for s in (required, optional + conditions, children, literal)))


_ACTIONS = "arg let group push_ros_namespace push-ros-namespace node include"
_NODE_OPTIONS = (
    "pkg name namespace args ros_args exec_name output respawn respawn_delay respawn_max_retries on_exit "
    "sigterm_timeout sigkill_timeout"
)
_NUMBERS = "respawn_delay respawn_max_retries sigterm_timeout sigkill_timeout"
_TAGS = {
    "launch": _tag(optional="version", children=_ACTIONS, action=False),
    "arg": _tag("name", "default description", children="choice", literal="name description"),
    "let": _tag("name value"),
    "group": _tag(optional="scoped", children=_ACTIONS, literal="scoped"),
    "push_ros_namespace": _tag("namespace"),
    "push-ros-namespace": _tag("namespace"),
    "node": _tag("exec", _NODE_OPTIONS, children="param remap env", literal=_NUMBERS + " on_exit"),
    "include": _tag("file", children="arg"),
    "param": _tag(optional="name value type from", children="param", literal="type", action=False),
    "remap": _tag("from to", action=False),
    "env": _tag("name value", action=False),
    "choice": _tag("value", literal="value", action=False),
}
_INCLUDE_ARG = _tag("name value", action=False)


def check(root: Element) -> None:
    """Raise AloeError at the first element, attribute or substitution that is not understood."""
    if root.tag != "launch":
        raise root.error(f"root element is <{root.tag}>, expected <launch>.")
    _check(root, _TAGS["launch"])


def _check(element: Element, tag: _Tag) -> None:
    known = tag.required | tag.optional
    for name, value in element.attributes.items():
        if name not in known:
            raise element.error(f"attribute {name!r} of <{element.tag}> is not understood.")
        if name not in tag.literal:
            try:
                substitution.parse(value)
            except AloeError as error:
                raise element.error(f"<{element.tag}> {name}: {error}") from error
    for name in sorted(tag.required - element.attributes.keys()):
        raise element.error(f"<{element.tag}> has no attribute {name!r}.")
    if {"if", "unless"} <= element.attributes.keys():
        raise element.error(f"<{element.tag}> has both if and unless; use one of them.")
    for child in element.children:
        if child.tag not in tag.children:
            raise child.error(f"element <{child.tag}> is not understood inside <{element.tag}>.")
        _check(child, _INCLUDE_ARG if element.tag == "include" else _TAGS[child.tag])

"""From a launch file and its arguments to the nodes that are to run; nothing is started here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aloe_cli.launch import document, packages, schema
from aloe_cli.launch.document import Element
from aloe_cli.launch.node import NodeSpec, node_spec
from aloe_cli.launch.scope import NAMESPACE, Scope, truth
from aloe_core.errors import AloeError

# Configurations that ros2 launch itself reads, so no file declares them.
_BUILT_IN = ("sigterm_timeout", "sigkill_timeout")


@dataclass(frozen=True)
class Argument:
    """An argument a launch file declares; `default` is unevaluated, None if the argument is required."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...]


@dataclass
class Plan:
    """Nodes in the order they are started, and the arguments of every file that was read."""

    nodes: list[NodeSpec] = field(default_factory=list)
    arguments: dict[str, Argument] = field(default_factory=dict)


def arguments_of(path: Path) -> list[Argument]:
    """Return the arguments `path` declares itself (not its includes), taken branch or not."""
    root = document.read(path)
    schema.check(root)
    return [_argument(element) for element in _declarations(root)]


def make_plan(path: Path, given: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> Plan:
    """Return what `path` starts with the arguments `given`; AloeError names file and line of what is wrong."""
    plan = Plan()
    scope = Scope(environment, path.resolve().parent, dict(given))
    _file(path, scope, plan, passed=set(given), including=())
    for name in given:
        if name not in plan.arguments and name not in _BUILT_IN:
            hint = packages.suggest(name, sorted(plan.arguments))
            raise AloeError(f"{path}: argument {name!r} is not declared{hint}; --show-args lists them.")
    return plan


def _file(path: Path, scope: Scope, plan: Plan, passed: set[str], including: tuple[Path, ...]) -> None:
    if path.resolve() in including:
        raise AloeError(f"{path}: the file includes itself.")
    root = document.read(path)
    schema.check(root)
    for element in _declarations(root):
        argument = _argument(element)
        plan.arguments.setdefault(argument.name, argument)
    _require(path, root, passed)
    _actions(root.children, scope.inside(path.resolve().parent), plan, (*including, path.resolve()))


def _actions(elements: list[Element], scope: Scope, plan: Plan, including: tuple[Path, ...]) -> None:
    for element in elements:
        if scope.applies(element):
            _action(element, scope, plan, including)


def _action(element: Element, scope: Scope, plan: Plan, including: tuple[Path, ...]) -> None:
    if element.tag == "arg":
        _declare(element, scope)
    elif element.tag == "let":
        _assign(element, scope)
    elif element.tag == "group":
        scoped = truth(element, "scoped", element.attributes.get("scoped", "true"))
        _actions(element.children, scope.nested() if scoped else scope, plan, including)
    elif element.tag == "include":
        # As in ROS, the arguments stay set for what follows; a group around the include keeps them in.
        passed = {_assign(argument, scope) for argument in element.named("arg")}
        _file(_included(element, scope), scope, plan, passed, including)
    elif element.tag == "node":
        plan.nodes.append(node_spec(element, scope, number=len(plan.nodes) + 1))
    else:
        namespace = scope.namespace(element, scope.attribute(element, "namespace"))
        scope.configurations[NAMESPACE] = namespace or "/"


def _assign(element: Element, scope: Scope) -> str:
    """Set a configuration and return its name."""
    name, value = scope.attribute(element, "name") or "", scope.attribute(element, "value") or ""
    scope.configurations[name] = value
    return name


def _declare(element: Element, scope: Scope) -> None:
    argument = _argument(element)
    if argument.name not in scope.configurations:
        default = scope.attribute(element, "default")
        if default is None:
            raise element.error(f"argument {argument.name!r} has no value; add {argument.name}:=VALUE.")
        scope.configurations[argument.name] = default
    value = scope.configurations[argument.name]
    if argument.choices and value not in argument.choices:
        raise element.error(f"argument {argument.name} = {value!r}: expected one of {', '.join(argument.choices)}.")


def _argument(element: Element) -> Argument:
    return Argument(
        name=element.attributes["name"],
        default=element.attributes.get("default"),
        description=element.attributes.get("description", ""),
        choices=tuple(c.attributes["value"] for c in element.named("choice")),
    )


def _declarations(element: Element) -> list[Element]:
    """Return every declaration inside `element`; the <arg> of an include passes a value, it declares nothing."""
    found = []
    for child in element.children:
        if child.tag == "arg":
            found.append(child)
        elif child.tag == "group":
            found += _declarations(child)
    return found


def _require(path: Path, root: Element, passed: set[str]) -> None:
    """Name all missing arguments at once; as in ROS, an include has to pass them even if they are set outside."""
    missing = [
        _argument(e)
        for e in root.named("arg")
        if "default" not in e.attributes
        and not {"if", "unless"} & e.attributes.keys()
        and e.attributes["name"] not in passed
    ]
    if missing:
        wanted = ", ".join(
            f"{a.name}:=VALUE ({a.description})" if a.description else f"{a.name}:=VALUE" for a in missing
        )
        raise AloeError(f"{path}: required arguments are missing: {wanted}.")


def _included(element: Element, scope: Scope) -> Path:
    path = Path(scope.attribute(element, "file") or "")
    if path.suffix != ".xml":
        raise element.error(f"<include> file = {str(path)!r}: expected an XML launch file; others need ros2 launch.")
    if not path.is_file():
        raise element.error(f"<include> file = {str(path)!r}: no such file.")
    return path

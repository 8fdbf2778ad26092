"""One `<node>`: what to start, and how it is to be kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from aloe_cli.launch import packages, parameters
from aloe_cli.launch.document import Element
from aloe_cli.launch.scope import Scope, truth
from aloe_core.errors import AloeError

OUTPUTS = ("screen", "log", "both", "own_log", "full")
_NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ParameterSource = Path | dict[str, parameters.Value]


@dataclass(frozen=True)
class Respawn:
    """Start the process again `delay` seconds after it ended, at most `retries` times (-1: always)."""

    delay: float
    retries: int


@dataclass(frozen=True)
class NodeSpec:
    """A node to start; `label` is unique within a plan, `parameters` apply in order, later ones win."""

    label: str
    executable: Path
    arguments: tuple[str, ...]
    ros_arguments: tuple[str, ...]
    name: str | None
    namespace: str | None  # absolute, None: as the node has it
    parameters: tuple[ParameterSource, ...]
    remappings: tuple[tuple[str, str], ...]
    environment: Mapping[str, str]
    output: str
    respawn: Respawn | None
    shutdown_on_exit: bool
    term_after: float  # s between SIGINT and SIGTERM
    kill_after: float  # s between SIGTERM and SIGKILL


def node_spec(element: Element, scope: Scope, number: int) -> NodeSpec:
    """Evaluate a <node>; AloeError names file and line of what is wrong."""
    executable = _executable(element, scope)
    name = scope.attribute(element, "name")
    if name is not None and not _NODE_NAME.fullmatch(name):
        raise element.error(f"<node> name = {name!r}: expected letters, digits and underscores.")
    output = scope.attribute(element, "output") or "log"
    if output not in OUTPUTS:
        raise element.error(f"<node> output = {output!r}: expected one of {', '.join(OUTPUTS)}.")
    on_exit = element.attributes.get("on_exit")
    if on_exit not in (None, "shutdown"):
        raise element.error(f"<node> on_exit = {on_exit!r}: expected shutdown.")
    return NodeSpec(
        label=f"{scope.attribute(element, 'exec_name') or executable.name}-{number}",
        executable=executable,
        arguments=_words(element, scope, "args"),
        ros_arguments=_words(element, scope, "ros_args"),
        name=name,
        namespace=scope.namespace(element, scope.attribute(element, "namespace")),
        parameters=_parameters(element, scope),
        remappings=tuple(
            (scope.attribute(r, "from") or "", scope.attribute(r, "to") or "") for r in element.named("remap")
        ),
        environment={
            **scope.environment,
            **{scope.attribute(e, "name") or "": scope.attribute(e, "value") or "" for e in element.named("env")},
        },
        output=output,
        respawn=_respawn(element, scope),
        shutdown_on_exit=on_exit == "shutdown",
        term_after=_timeout(element, scope, "sigterm_timeout"),
        kill_after=_timeout(element, scope, "sigkill_timeout"),
    )


def _executable(element: Element, scope: Scope) -> Path:
    package, name = scope.attribute(element, "pkg"), scope.attribute(element, "exec") or ""
    try:
        if package is not None:
            return packages.executable(package, name, scope.environment)
    except AloeError as error:
        raise element.error(f"<node> {error}") from error
    path = Path(name)
    if not path.is_file():
        raise element.error(f"<node> exec = {name!r}: no such file, and there is no pkg.")
    return path


def _words(element: Element, scope: Scope, name: str) -> tuple[str, ...]:
    try:
        return tuple(scope.words(element.attributes.get(name, "")))
    except AloeError as error:
        raise element.error(f"<node> {name}: {error}") from error


def _respawn(element: Element, scope: Scope) -> Respawn | None:
    delay = _number(element, "respawn_delay", element.attributes.get("respawn_delay", "0"))
    retries = _number(element, "respawn_max_retries", element.attributes.get("respawn_max_retries", "-1"), low=-1)
    respawn = scope.attribute(element, "respawn")
    if respawn is None or not truth(element, "respawn", respawn):
        return None
    return Respawn(delay=delay, retries=int(retries))


def _timeout(element: Element, scope: Scope, name: str) -> float:
    return _number(element, name, element.attributes.get(name) or scope.configurations.get(name, "5"))


def _number(element: Element, name: str, text: str, low: float = 0) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value < float("inf"):
        raise element.error(f"<node> {name} = {text!r}: expected a number of at least {low:g}.")
    return value


def _parameters(element: Element, scope: Scope) -> tuple[ParameterSource, ...]:
    sources: list[ParameterSource] = []
    for param in element.named("param"):
        attributes = param.attributes
        if ("from" in attributes) == ("name" in attributes):
            raise param.error("<param> needs either name or from.")
        if "from" in attributes:
            if len(attributes) > 1 or param.children:
                raise param.error("<param from> takes neither value, type nor nested <param>.")
            sources.append(_parameter_file(param, scope))
        elif sources and isinstance(sources[-1], dict):
            sources[-1].update(_values(param, scope, ""))
        else:
            sources.append(_values(param, scope, ""))
    return tuple(sources)


def _parameter_file(param: Element, scope: Scope) -> Path:
    path = Path(scope.attribute(param, "from") or "")
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise param.error(f"<param> from = {str(path)!r}: cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise param.error(f"<param> from = {str(path)!r}: not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(data, dict):
        raise param.error(f"<param> from = {str(path)!r}: expected node names with ros__parameters.")
    return path


def _values(param: Element, scope: Scope, prefix: str) -> dict[str, parameters.Value]:
    """Return the values of a <param name>, nested names joined by dots."""
    name = prefix + (scope.attribute(param, "name") or "")
    raw, kind = param.attributes.get("value"), param.attributes.get("type")
    if param.children and (raw is not None or kind is not None):
        raise param.error(f"<param> {name} has nested <param>, so it takes neither value nor type.")
    if param.children:
        nested: dict[str, parameters.Value] = {}
        for child in param.children:
            if "name" not in child.attributes or "from" in child.attributes:
                raise child.error("a nested <param> needs a name.")
            nested.update(_values(child, scope, f"{name}."))
        return nested
    if raw is None:
        raise param.error(f"<param> {name} has no value.")
    try:
        return {name: parameters.evaluate(raw, kind, scope.text)}
    except AloeError as error:
        raise param.error(f"<param> {name}: {error}") from error

"""The parameters of every node, read from the nodes themselves; needs rclpy."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor, ParameterType
from rclpy.node import Node

from aloe_cli.checks import EXECUTABLES
from aloe_core.contract import RobotContract, load_contract

# Declared by rclpy itself in every node.
_OF_RCLPY = ("use_sim_time", "start_type_description_service")
_TYPES = {
    ParameterType.PARAMETER_BOOL: "bool",
    ParameterType.PARAMETER_INTEGER: "int",
    ParameterType.PARAMETER_DOUBLE: "float",
    ParameterType.PARAMETER_STRING: "string",
    ParameterType.PARAMETER_BOOL_ARRAY: "list of bool",
    ParameterType.PARAMETER_INTEGER_ARRAY: "list of int",
    ParameterType.PARAMETER_DOUBLE_ARRAY: "list of float",
    ParameterType.PARAMETER_STRING_ARRAY: "list of string",
}


@dataclass(frozen=True)
class NodeParameter:
    """A declared parameter; `default` is what the node uses when nothing is given, None if something must be."""

    name: str
    type: str
    default: Any
    range: str
    description: str
    read_only: bool


def read(contract_path: Path) -> dict[str, list[NodeParameter]]:
    """Construct every node of the suite once and return its parameters by node name, in alphabetical order.

    A name that ends in a camera of the contract is given once, as `source.<camera>`.
    """
    contract = load_contract(contract_path)
    rclpy.init(args=["--ros-args", "-p", f"contract:={contract_path}"], domain_id=_quiet_domain())
    try:
        return {
            executable: _of_node(importlib.import_module(f"{package}.nodes.{executable}"), contract)
            for package, names in EXECUTABLES.items()
            for executable in names
        }
    finally:
        rclpy.shutdown()


def _of_node(module: ModuleType, contract: RobotContract) -> list[NodeParameter]:
    (node_class,) = (
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Node) and member.__module__ == module.__name__
    )
    found: dict[str, NodeParameter] = {}
    with _made(node_class) as node:
        for name, parameter in sorted(node.get_parameters_by_prefix("").items()):
            if name not in _OF_RCLPY and not name.startswith("qos_overrides"):
                one = _describe(_general(name, contract), parameter.value, node.describe_parameter(name))
                found.setdefault(one.name, one)
    return list(found.values())


@contextmanager
def _made(node_class: type[Node]) -> Iterator[Node]:
    node = node_class()
    try:
        yield node
    finally:
        node.destroy_node()


def _general(name: str, contract: RobotContract) -> str:
    head, _, last = name.rpartition(".")
    return f"{head}.<camera>" if head and last in contract.camera_names else name


def _describe(name: str, value: Any, descriptor: ParameterDescriptor) -> NodeParameter:
    limits = descriptor.additional_constraints
    for span in descriptor.integer_range:
        limits = f"{span.from_value} to {span.to_value}"
    for span in descriptor.floating_point_range:
        limits = f"{span.from_value:g} to {span.to_value:g}"
    return NodeParameter(
        name=name,
        type=_TYPES[descriptor.type],
        default=None if name == "contract" else value,
        range=limits,
        description=descriptor.description,
        read_only=descriptor.read_only,
    )


def _quiet_domain() -> int:
    """Return a domain other than the environment's, since the nodes must not meet a running graph."""
    return 100 - int(os.environ.get("ROS_DOMAIN_ID") or 0) % 100

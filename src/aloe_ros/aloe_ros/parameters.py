"""Parameters with description, range and an error a person can act on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
)
from rclpy.node import Node

from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError, bad_value

T = TypeVar("T", bool, int, float, str, list)


def declare(
    node: Node,
    name: str,
    default: T,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    read_only: bool = True,
) -> T:
    """Declare a parameter and return its value; AloeError if what was given has the wrong type, range or choice."""
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if choices:
        descriptor.additional_constraints = "one of " + ", ".join(choices)
    if low is not None and high is not None:
        if isinstance(default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    where = f"Node {node.get_name()}: parameter"
    try:
        value = node.declare_parameter(name, default, descriptor).value
    except InvalidParameterTypeException as error:
        given = node._parameter_overrides[name].value
        raise bad_value(where, name, given, f"a {type(default).__name__}") from error
    except InvalidParameterValueException as error:
        given = node._parameter_overrides[name].value
        raise bad_value(where, name, given, f"{low} to {high}") from error
    if choices and value not in choices:
        raise bad_value(where, name, value, "one of " + ", ".join(choices))
    return value


def declare_lockstep(node: Node) -> bool:
    """Declare and return `lockstep`: nothing is timed by a wall clock, every joint state is answered (simulation)."""
    return declare(
        node,
        "lockstep",
        False,
        "Answer every joint state; nothing is timed by a wall clock (simulation).",
    )


def declare_contract(node: Node) -> RobotContract:
    """Declare `contract` and load the robot contract it names; AloeError if it is not set or not valid."""
    path = declare(node, "contract", "", "Path of the robot contract (YAML).")
    if not path:
        raise AloeError(f"Node {node.get_name()}: parameter contract is empty: expected the path of a robot contract.")
    return load_contract(Path(path))

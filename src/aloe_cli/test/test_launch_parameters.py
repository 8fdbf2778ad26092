"""Expected values were produced by launch_ros 0.26 (Jazzy) from the same XML."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_cli.launch import parameters
from aloe_cli.launch.scope import Scope
from aloe_core.errors import AloeError


def value(raw, kind, tmp_path):
    scope = Scope({"HOME": "/h"}, tmp_path, {"x": "7", "y": "hello", "l": "[1, 2]", "t": "true"})
    return parameters.evaluate(raw, kind, scope.text)


@pytest.mark.parametrize(
    ("raw", "kind", "expected"),
    [
        ("5", None, 5),
        ("5.0", None, 5.0),
        ("1e-3", None, "1e-3"),
        ("true", None, True),
        ("yes", None, True),
        ("hello", None, "hello"),
        ("", None, ""),
        ("'5'", None, "5"),
        ("010", None, 8),
        ("[1, 2]", None, [1, 2]),
        ("[a, b]", None, ["a", "b"]),
        ("['1', '2']", None, ["1", "2"]),
        ("$(var x)", None, 7),
        ("'$(var x)'", None, 7),
        ("pre $(var x) post", None, "pre 7 post"),
        ("[$(var x), 2]", None, [7, 2]),
        ("$(var l)", None, [1, 2]),
        ("$(var t)", None, True),
        (r"\$(var x)", None, "$(var x)"),
        ("5", "str", "5"),
        ("$(var x)", "str", "7"),
        ("5", "float", 5.0),
        ("$(var x)", "float", 7.0),
        ("5", "int", 5),
        ("1", "bool", True),
        ("0", "bool", False),
        ("$(var t)", "bool", True),
        ("[1.0, 2.5]", "list_of_float", [1.0, 2.5]),
        ("[$(var x), 2]", "list_of_int", [7, 2]),
        ("[$(var y), b]", "list_of_str", ["hello", "b"]),
        ("$(var l)", "yaml", [1, 2]),
    ],
)
def test_value_has_the_type_that_launch_ros_gives_it(raw, kind, expected, tmp_path):
    result = value(raw, kind, tmp_path)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("[1, 2.0]", None),
        ("[1, a]", None),
        ("[[1], [2]]", None),
        ("{a: 1}", None),
        ("null", None),
        ("2020-01-01", None),
        ("5.0", "int"),
        ("0x10", "int"),
        ("hello", "float"),
        ("2", "bool"),
        ("[1, 2]", "list_of_float"),
        ("['1', '2']", "list_of_int"),
        ("$(var l)", "list_of_int"),
        ("5", "list_of_int"),
        ("5", "double"),
    ],
)
def test_value_that_launch_ros_refuses_is_refused(raw, kind, tmp_path):
    with pytest.raises(AloeError):
        value(raw, kind, tmp_path)


@pytest.mark.parametrize("raw", ["[]", "99999999999999999999"])
def test_value_that_no_ros_parameter_can_hold_is_refused(raw, tmp_path):
    with pytest.raises(AloeError):
        value(raw, None, tmp_path)


@given(st.text())
def test_a_quoted_string_parameter_arrives_unchanged(text):
    escaped = text.replace("\\", "\\\\").replace("$", "\\$")
    assert parameters.evaluate(escaped, "str", Scope({}, None, {}).text) == text  # type: ignore[arg-type]

"""Commands were compared with those of launch 3.4 and launch_ros 0.26 (Jazzy) for the same files."""

import os
from pathlib import Path

import pytest
import yaml

from aloe_cli.launch.command import command
from aloe_cli.launch.plan import arguments_of, make_plan
from aloe_core.errors import AloeError

ECHO = '<node exec="/bin/echo" args="{}"/>'


def words(path, **given):
    """Arguments of each node, without what starts at --ros-args."""
    return [list(spec.arguments) for spec in make_plan(path, given).nodes]


def test_argument_takes_its_default_unless_given(launch_file):
    path = launch_file('<arg name="a" default="1"/>' + ECHO.format("$(var a)"))
    assert words(path) == [["1"]]
    assert words(path, a="2") == [["2"]]


def test_default_may_refer_to_an_earlier_argument(launch_file):
    path = launch_file(
        '<arg name="a" default="1"/><arg name="b" default="$(var a)$(var a)"/>' + ECHO.format("$(var b)")
    )
    assert words(path, a="x") == [["xx"]]


def test_all_missing_arguments_are_named_with_their_descriptions(launch_file):
    path = launch_file('<arg name="a" description="first"/><arg name="b"/><arg name="c" default="3"/>')
    with pytest.raises(AloeError, match=r"a:=VALUE \(first\), b:=VALUE\."):
        make_plan(path, {})


def test_undeclared_argument_is_refused_with_a_suggestion(launch_file):
    path = launch_file('<arg name="task" default="1"/>')
    with pytest.raises(AloeError, match=r"'tsak' is not declared .did you mean 'task'"):
        make_plan(path, {"tsak": "2"})


def test_choice_is_enforced(launch_file):
    path = launch_file('<arg name="a" default="p">\n<choice value="p"/><choice value="q"/></arg>')
    make_plan(path, {"a": "q"})
    with pytest.raises(AloeError, match=f"{path}:2: argument a = 'r': expected one of p, q"):
        make_plan(path, {"a": "r"})


def test_group_keeps_its_settings_in_unless_it_is_not_scoped(launch_file):
    body = '<let name="a" value="1"/><group{}><let name="a" value="2"/>{e}</group>{e}'
    echo = ECHO.format("$(var a)")
    assert words(launch_file(body.format("", e=echo))) == [["2"], ["1"]]
    assert words(launch_file(body.format(' scoped="false"', e=echo))) == [["2"], ["2"]]


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        ('if="true"', True),
        ('if=" TRUE "', True),
        ('if="1"', True),
        ('if="0"', False),
        ('if="False"', False),
        ('unless="false"', True),
        ('unless="1"', False),
        ('if="$(var t)"', True),
    ],
)
def test_condition_decides_whether_an_element_counts(condition, applies, launch_file):
    path = launch_file(f'<let name="t" value="true"/><group {condition}>{ECHO.format("x")}</group>')
    assert bool(words(path)) is applies


@pytest.mark.parametrize("value", ["yes", "", "2"])
def test_condition_that_is_neither_true_nor_false_is_refused(value, launch_file):
    path = launch_file(f'<node exec="/bin/true" if="{value}"/>')
    with pytest.raises(AloeError, match=f"{path}:2: .*expected true, false, 1 or 0"):
        make_plan(path, {})


def test_namespaces_nest_and_end_with_their_group(launch_file):
    path = launch_file("""
<group><push_ros_namespace namespace="a"/><node exec="/bin/true" name="n"/>
  <group><push-ros-namespace namespace="b"/>
    <node exec="/bin/true" namespace="c"/><node exec="/bin/true" namespace="/d"/>
  </group>
  <node exec="/bin/true"/>
</group>
<node exec="/bin/true"/>""")
    assert [s.namespace for s in make_plan(path, {}).nodes] == ["/a", "/a/b/c", "/d", "/a", None]


def test_an_empty_namespace_argument_means_the_root(launch_file):
    path = launch_file(
        '<push_ros_namespace namespace=""/><node exec="/bin/true"/><node exec="/bin/true" namespace="x"/>'
    )
    assert [s.namespace for s in make_plan(path, {}).nodes] == ["/", "/x"]


@pytest.mark.parametrize("namespace", ["a b", "1a", "a//b", "a-b"])
def test_invalid_namespace_is_refused(namespace, launch_file):
    path = launch_file(f'<push_ros_namespace namespace="{namespace}"/>')
    with pytest.raises(AloeError, match=f"{path}:2: namespace"):
        make_plan(path, {})


def test_include_gets_its_arguments_and_its_own_directory(launch_file, tmp_path):
    (tmp_path / "sub").mkdir()
    inner = tmp_path / "sub" / "inner.launch.xml"
    inner.write_text(f'<launch><arg name="r"/>{ECHO.format("$(var r) $(dirname)")}</launch>')
    path = launch_file(
        '<include file="$(dirname)/sub/inner.launch.xml"><arg name="r" value="3"/></include>'
        + ECHO.format("$(dirname)")
    )
    assert words(path) == [["3", str(inner.parent)], [str(tmp_path)]]


def test_include_has_to_pass_required_arguments_itself(launch_file, tmp_path):
    launch_file('<arg name="r"/>', "inner.launch.xml")
    path = launch_file('<include file="$(dirname)/inner.launch.xml"/>')
    with pytest.raises(AloeError, match=r"inner\.launch\.xml: required arguments are missing: r:=VALUE"):
        make_plan(path, {"r": "9"})


def test_argument_declared_in_an_included_file_may_be_given(launch_file):
    launch_file('<arg name="r" default="1"/>' + ECHO.format("$(var r)"), "inner.launch.xml")
    assert words(launch_file('<include file="$(dirname)/inner.launch.xml"/>'), r="2") == [["2"]]


def test_file_that_includes_itself_is_refused(launch_file):
    path = launch_file('<include file="$(dirname)/test.launch.xml"/>')
    with pytest.raises(AloeError, match="includes itself"):
        make_plan(path, {})


@pytest.mark.parametrize("file", ["nope.launch.xml", "other.launch.py"])
def test_include_that_cannot_be_read_names_the_line(file, launch_file):
    path = launch_file(f'<include file="$(dirname)/{file}"/>')
    with pytest.raises(AloeError, match=f"{path}:2: <include> file"):
        make_plan(path, {})


def test_arguments_are_split_like_a_shell_but_substitutions_are_not(launch_file):
    path = launch_file(
        '<let name="s" value="a b"/>' + ECHO.format("--x=$(var s) $(var s)$(var s) 'q r' $(env NO dflt)")
    )
    assert words(path) == [["--x=a b", "a ba b", "q r", "dflt"]]


def test_quoted_and_nested_substitution_arguments(launch_file):
    path = launch_file('<let name="x" value="n"/>' + ECHO.format("$(env NO 'two words') $(env NO_$(var x) $(var x))"))
    assert words(path) == [["two words", "n"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(var nope)", "'nope' is not declared here"),
        ("$(env ALOE_NOT_SET)", "'ALOE_NOT_SET' is not set"),
        ("$(find-pkg-share aloe_nope)", "package 'aloe_nope' is not installed"),
    ],
)
def test_reference_to_nothing_names_the_line(text, message, launch_file):
    path = launch_file(f'<let name="a" value="{text}"/>')
    with pytest.raises(AloeError, match=f"{path}:2: <let> value: .*{message}"):
        make_plan(path, {}, {"AMENT_PREFIX_PATH": "/"})


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An install prefix with package `pack` and executable `tool`."""
    index = tmp_path / "prefix/share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "pack").touch()
    tool = tmp_path / "prefix/lib/pack/tool"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    return tmp_path / "prefix"


def test_executable_and_share_are_found_in_the_prefix_path(launch_file, prefix):
    path = launch_file('<node pkg="pack" exec="tool" args="$(find-pkg-share pack) $(find-pkg-prefix pack)"/>')
    (spec,) = make_plan(path, {}, {"AMENT_PREFIX_PATH": f"/nope{os.pathsep}{prefix}"}).nodes
    assert spec.executable == prefix / "lib/pack/tool"
    assert spec.arguments == (f"{prefix}/share/pack", str(prefix))
    assert spec.label == "tool-1"


def test_misspelt_executable_and_package_come_with_a_suggestion(launch_file, prefix):
    environment = {"AMENT_PREFIX_PATH": str(prefix)}
    with pytest.raises(AloeError, match=r"no executable 'tol' .did you mean 'tool'"):
        make_plan(launch_file('<node pkg="pack" exec="tol"/>'), {}, environment)
    with pytest.raises(AloeError, match=r"package 'pakc' is not installed .did you mean 'pack'"):
        make_plan(launch_file('<node pkg="pakc" exec="tool"/>'), {}, environment)


def test_command_line_of_a_node_is_that_of_launch_ros(launch_file, tmp_path):
    parameters = tmp_path / "p.yaml"
    parameters.write_text("/**: {ros__parameters: {z: 1}}")
    path = launch_file(f"""
<node exec="/bin/true" name="n" namespace="x" args="a" ros_args="--log-level debug">
  <param name="b" value="1"/><param name="c"><param name="d" value="s"/></param>
  <param from="{parameters}"/><param name="e" value="2.0"/>
  <remap from="/clock" to="clock"/><env name="K" value="V"/>
</node>""")
    (spec,) = make_plan(path, {}).nodes
    line = command(spec, tmp_path / "out")
    first, last = tmp_path / "out/true-1-0.yaml", tmp_path / "out/true-1-2.yaml"
    assert line == [
        *("/bin/true", "a", "--ros-args", "--log-level", "debug", "--ros-args", "-r", "__node:=n", "-r", "__ns:=/x"),
        *("--params-file", str(first), "--params-file", str(parameters), "--params-file", str(last)),
        *("-r", "/clock:=clock"),
    ]
    assert yaml.safe_load(first.read_text()) == {"/x/n": {"ros__parameters": {"b": 1, "c.d": "s"}}}
    assert yaml.safe_load(last.read_text()) == {"/x/n": {"ros__parameters": {"e": 2.0}}}
    assert spec.environment["K"] == "V"


def test_parameters_go_to_the_wildcard_when_the_node_is_not_fully_named(launch_file, tmp_path):
    (spec,) = make_plan(launch_file('<node exec="/bin/true" name="n"><param name="b" value="1"/></node>'), {}).nodes
    command(spec, tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out/true-1-0.yaml").read_text()) == {"/**": {"ros__parameters": {"b": 1}}}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ('name="a b"', "name = 'a b'"),
        ('output="file"', "output = 'file': expected one of screen"),
        ('on_exit="restart"', "on_exit = 'restart': expected shutdown"),
        ('respawn="maybe"', "respawn = 'maybe': expected true"),
        ('respawn_delay="-1"', "respawn_delay = '-1': expected a number of at least 0"),
        ('sigterm_timeout="soon"', "sigterm_timeout = 'soon'"),
    ],
)
def test_bad_node_attribute_names_line_value_and_expectation(attributes, message, launch_file):
    path = launch_file(f'<node exec="/bin/true" {attributes}/>')
    with pytest.raises(AloeError, match=f"{path}:2: .*{message}"):
        make_plan(path, {})


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ('<param name="a"/>', "a has no value"),
        ('<param value="1"/>', "needs either name or from"),
        ('<param name="a" from="b"/>', "needs either name or from"),
        ('<param from="/nope.yaml"/>', "cannot be read"),
        ('<param name="a" value="1"><param name="b" value="2"/></param>', "neither value nor type"),
        ('<param name="a"><param value="2"/></param>', "nested <param> needs a name"),
        ('<param name="a" value="x" type="int"/>', "a: value 'x' is no int"),
    ],
)
def test_bad_parameter_names_its_line(param, message, launch_file):
    path = launch_file(f'<node exec="/bin/true">\n{param}</node>')
    with pytest.raises(AloeError, match=f"{path}:3: .*{message}"):
        make_plan(path, {})


def test_arguments_can_be_listed_without_evaluating_anything(launch_file):
    path = launch_file("""
<arg name="a" description="what it is"/>
<group if="$(var a)"><arg name="b" default="$(env NOT_THERE)"><choice value="x"/></arg></group>""")
    a, b = arguments_of(path)
    assert (a.name, a.default, a.description) == ("a", None, "what it is")
    assert (b.name, b.default, b.choices) == ("b", "$(env NOT_THERE)", ("x",))

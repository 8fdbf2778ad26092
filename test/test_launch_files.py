"""The launch files and parameter files fit the nodes they start."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

import yaml

from aloe_cli import paths
from aloe_cli.launch.node import NodeSpec
from aloe_cli.launch.plan import arguments_of, make_plan
from aloe_cli.node_parameters import read
from aloe_core.contract import load_contract

ROOT = Path(__file__).parents[1]
ALL = {
    "sim": {},
    "sim, everything given": {"namespace": "left", "lockstep": "false", "candidates": "1", "real_time_factor": "2"},
    "robot": {"contract": str(paths.contract(None)), "joy": "false"},
    "robot, joystick alone": {
        "contract": str(paths.contract(None)),
        "joy": "false",
        "joy_reader": "true",
        "drive_by": "joy",
    },
    "trainer": {"contract": str(paths.contract(None))},
}
TYPES = {bool: "bool", int: "int", float: "float", str: "string"}


def plan(case):
    return make_plan(ROOT / "launch" / f"{case.split(',')[0]}.launch.xml", ALL[case])


@pytest.fixture(scope="module")
def declared():
    """Type of each parameter by node, camera names filled in."""
    cameras = load_contract(paths.contract(None)).camera_names
    return {
        node: {p.name.replace("<camera>", camera): p.type for p in parameters for camera in cameras}
        for node, parameters in read(paths.contract(None)).items()
    }


def given_in_file(path: Path, node: str):
    """Return parameter values that the file holds for `node` or for all nodes."""
    found = {}
    for pattern, content in yaml.safe_load(path.read_text()).items():
        if pattern.split("/")[-1] in ("**", node):
            found.update(flat(content["ros__parameters"]))
    return found


def flat(values, prefix=""):
    """Join nested names by dots."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def given(spec: NodeSpec):
    """Return every parameter value that a planned node gets."""
    found = {}
    for source in spec.parameters:
        found.update(given_in_file(source, spec.executable.name) if isinstance(source, Path) else source)
    return found


@pytest.mark.parametrize("case", ALL)
def test_every_given_parameter_is_declared_by_its_node_with_that_type(case, declared):
    for spec in plan(case).nodes:
        types = {**declared[spec.executable.name], "use_sim_time": "bool"}
        for name, value in given(spec).items():
            kind = f"list of {TYPES[type(value[0])]}" if isinstance(value, list) else TYPES[type(value)]
            assert types.get(name) == kind, f"{spec.executable.name}.{name} = {value!r}"


@pytest.mark.parametrize("case", ALL)
def test_every_node_gets_its_required_parameters_and_a_name(case, declared):
    for spec in plan(case).nodes:
        assert spec.name == spec.executable.name
        assert given(spec)["contract"]
        if "lockstep" in declared[spec.name]:
            assert "lockstep" in given(spec)


def test_simulation_starts_the_whole_graph_in_its_namespace():
    nodes = {spec.name: spec for spec in plan("sim, everything given").nodes}
    assert sorted(nodes) == [
        "arbiter_node",
        "camera_node",
        "episode_manager",
        "episode_recorder",
        "policy_node",
        "scripted_human",
        "sim_node",
        "takeover_node",
        "trainer_node",
    ]
    assert {spec.namespace for spec in nodes.values()} == {"/left"}


def test_clock_stays_in_the_namespace_of_a_simulation():
    for spec in plan("sim").nodes:
        if given(spec).get("use_sim_time"):
            assert ("/clock", "clock") in spec.remappings, spec.name


def test_a_real_robot_runs_without_simulated_time_and_lock_step():
    for spec in plan("robot").nodes:
        values = given(spec)
        assert not values.get("use_sim_time")
        assert values["lockstep"] is False


@pytest.mark.parametrize("name", ["sim", "robot", "trainer"])
def test_every_launch_argument_is_described(name):
    assert [a.name for a in arguments_of(ROOT / "launch" / f"{name}.launch.xml") if not a.description] == []


def test_every_launch_file_is_covered_here():
    assert {f.name.split(".")[0] for f in (ROOT / "launch").iterdir()} == {case.split(",")[0] for case in ALL}

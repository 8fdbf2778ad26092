"""package.xml, setup.py and the code agree: dependencies, versions, entry points."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml

package_parser = pytest.importorskip("catkin_pkg.package", reason="needs the build tools")

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sorted(path.parent for path in (ROOT / "src").glob("*/package.xml"))
PYTHON_PACKAGES = [path for path in PACKAGES if (path / "setup.py").exists()]

# Imported module -> rosdep key, where the two differ. Keys ending in -pip are in requirements/rosdep.yaml.
KEYS = {
    "cv2": "python3-opencv",
    "evdev": "python3-evdev",
    "fsspec": "python3-fsspec",
    "gym_aloha": "python3-gym-aloha-pip",
    "gymnasium": "python3-gymnasium-pip",
    "hypothesis": "python3-hypothesis",
    "imageio": "python3-imageio",
    "matplotlib": "python3-matplotlib",
    "mcap": "python3-mcap-pip",
    "mink": "python3-mink-pip",
    "msgpack": "python3-msgpack",
    "mujoco": "python3-mujoco-pip",
    "numpy": "python3-numpy",
    "ogbench": "python3-ogbench-pip",
    "psutil": "python3-psutil",
    "pydantic": "python3-pydantic",
    "pytest": "python3-pytest",
    "rich": "python3-rich",
    "rosbags": "python3-rosbags-pip",
    "safetensors": "python3-safetensors-pip",
    "scipy": "python3-scipy",
    "simplejpeg": "python3-simplejpeg-pip",
    "tensorboard": "python3-tensorboard-pip",
    "torch": "python3-torch-pip",
    "transforms3d": "python3-transforms3d",
    "typer": "python3-typer-pip",
    "websockets": "python3-websockets-pip",
    "yaml": "python3-yaml",
    "zstandard": "python3-zstandard-pip",
}

# trackers: used where a person installed one and asks for it; agents, jax: of the clone given to `bench updates --jax`;
# the others: of LeRobot, in an environment of its own
OPTIONAL = {"agents", "jax", "lerobot", "peft", "tokenizers", "trackio", "transformers", "wandb"}
DYNAMIC = ("importlib.import_module", "import_module", "pytest.importorskip")


def imported_modules(folder: Path) -> set[str]:
    """Top-level names of all absolute imports below a folder, wherever in a file they stand."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
            elif (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) in DYNAMIC
                and isinstance(node.args[0], ast.Constant)
            ):
                names.add(str(node.args[0].value).split(".")[0])
    return names - set(sys.stdlib_module_names) - {"__future__"} - OPTIONAL


def required_keys(package: Path, folder: str) -> set[str]:
    target = package / folder
    local = {package.name} | {path.stem for path in (ROOT / "src").glob("*/test/*.py")}  # helpers of the tests
    return {KEYS.get(name, name) for name in imported_modules(target) - local}


def console_scripts(package: Path) -> dict[str, str]:
    tree = ast.parse((package / "setup.py").read_text())
    entries = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and "=" in str(node.value)]
    pairs = [re.fullmatch(r"(\w+) ?= ?([\w.]+:\w+)", str(entry)) for entry in entries]
    return {pair[1]: pair[2] for pair in pairs if pair}


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.name)
def test_package_xml_is_valid(path: Path) -> None:
    warnings: list[str] = []
    package = package_parser.parse_package(path / "package.xml", warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.package_format == 3
    assert package.name == path.name
    assert package.licenses == ["Apache-2.0"]


@pytest.mark.parametrize("path", PYTHON_PACKAGES, ids=lambda path: path.name)
def test_every_import_is_declared(path: Path) -> None:
    package = package_parser.parse_package(path / "package.xml")
    declared = {item.name for item in package.exec_depends}
    missing = required_keys(path, path.name) - declared
    assert not missing, f"{path.name}/package.xml lacks <exec_depend> for {sorted(missing)}"
    missing = required_keys(path, "test") - declared - {item.name for item in package.test_depends}
    assert not missing, f"{path.name}/package.xml lacks <test_depend> for {sorted(missing)}"


def test_rosdep_rules_cover_the_keys_that_no_distribution_has() -> None:
    rules = yaml.safe_load((ROOT / "requirements/rosdep.yaml").read_text())
    used = {
        item.name
        for path in PACKAGES
        for item in (lambda package: package.exec_depends + package.test_depends)(
            package_parser.parse_package(path / "package.xml")
        )
        if item.name.endswith("-pip")
    }
    assert used <= set(rules)
    pins = (ROOT / "requirements/constraints.txt").read_text()
    for key, rule in rules.items():
        for distribution in ("debian", "ubuntu"):
            for name in rule[distribution]["pip"]["packages"]:
                assert f"\n{name}==" in pins, f"requirements/rosdep.yaml: {key} installs {name}, which is not pinned"


def test_all_packages_have_one_version() -> None:
    versions = {path.name: package_parser.parse_package(path / "package.xml").version for path in PACKAGES}
    assert len(set(versions.values())) == 1, versions
    for path in PYTHON_PACKAGES:
        found = re.search(r'version="([^"]+)"', (path / "setup.py").read_text())
        assert found and found[1] == versions[path.name], f"{path.name}/setup.py"
    assert f"\n{versions['aloe_msgs']} (" in (ROOT / "CHANGELOG.rst").read_text()


@pytest.mark.parametrize("path", PYTHON_PACKAGES, ids=lambda path: path.name)
def test_python_package_is_installed_as_ros2_run_expects(path: Path) -> None:
    assert (path / "resource" / path.name).exists()
    config = (path / "setup.cfg").read_text()
    assert f"script_dir=$base/lib/{path.name}" in config
    assert f"install_scripts=$base/lib/{path.name}" in config


@pytest.mark.parametrize(
    ("package", "script", "target"),
    [(path.name, script, target) for path in PYTHON_PACKAGES for script, target in console_scripts(path).items()],
)
def test_console_script_resolves_and_is_installed(package: str, script: str, target: str) -> None:
    module, function = target.split(":")
    assert callable(getattr(importlib.import_module(module), function))
    executable = ROOT / "install/lib" / package / script
    assert executable.exists(), f"'ros2 run {package} {script}' would find nothing: run 'make setup'"


def test_interfaces_are_documented() -> None:
    for path in (ROOT / "src/aloe_msgs").glob("*/*.*"):
        if path.suffix in (".msg", ".srv", ".action"):
            assert path.read_text().startswith("#"), f"{path.name} does not say what it is for"

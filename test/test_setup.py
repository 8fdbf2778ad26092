"""The set-up script: quick when there is nothing to do, plain about what is missing, safe after an interruption."""

import os
import resource
import runpy
import shutil
import subprocess
from importlib.metadata import Distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COREUTILS = ["bash", "cat", "cp", "dirname", "env", "find", "flock", "grep", "mkdir", "mv", "rm"]
COREUTILS += ["sha256sum", "sort", "tail", "touch", "xargs"]


def outside() -> dict[str, str]:
    """The environment of a shell that has not entered ours."""
    ours = ("ALOE_", "AMENT_", "CMAKE_", "LD_LIBRARY", "PYTHON", "ROS_", "VIRTUAL_ENV", "_ROS_")
    found = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    found["PATH"] = os.pathsep.join(part for part in found["PATH"].split(os.pathsep) if not part.startswith(str(ROOT)))
    return found


def _children_seconds() -> float:
    """Processor time, so that a busy machine does not fail the test."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def bare(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of what set-up reads, and an environment with Python and coreutils only."""
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / "repo" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "repo/src").mkdir()
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in COREUTILS:
        path = shutil.which(name)
        assert path
        (tools / name).symlink_to(path)
    return tmp_path / "repo", {**outside(), "PATH": str(tools), "PYTHON": os.path.realpath(ROOT / ".venv/bin/python")}


def test_second_run_does_nothing_within_three_seconds() -> None:
    begin = _children_seconds()
    result = subprocess.run([ROOT / "scripts/setup.sh"], capture_output=True, text=True, env=outside())
    assert result.returncode == 0, result.stderr
    if "up to date" not in result.stdout:
        pytest.skip("files changed while the tests ran; set-up has just rebuilt")
    assert _children_seconds() - begin < 3.0


def test_missing_tools_are_named_as_debian_packages(bare: tuple[Path, dict[str, str]]) -> None:
    repository, environment = bare
    result = subprocess.run([repository / "scripts/setup.sh"], capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("setup: missing system packages: apt install ")
    assert {"cmake", "g++", "make", "git"} <= set(line.split())
    assert not (repository / ".venv").exists()


def test_unknown_profile_is_refused(bare: tuple[Path, dict[str, str]]) -> None:
    repository, environment = bare
    environment["ALOE_PROFILE"] = "robt"
    result = subprocess.run([repository / "scripts/setup.sh"], capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert result.stderr == "setup: ALOE_PROFILE is 'robt': expected full, robot or trainer\n"


def test_environment_on_a_full_ros_is_not_replaced_unasked(bare: tuple[Path, dict[str, str]]) -> None:
    repository, environment = bare
    (repository / ".venv/.aloe").mkdir(parents=True)
    (repository / ".venv/.aloe/ros").write_text("system\n")
    result = subprocess.run([repository / "scripts/setup.sh"], capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert "source its setup.bash first" in result.stderr
    assert (repository / ".venv/.aloe/ros").exists()


@pytest.mark.parametrize("damage", ["none", "cut file", "no file", "no record"])
def test_torn_package_is_recognised(tmp_path: Path, damage: str) -> None:
    torn = runpy.run_path(str(ROOT / "scripts/drop_torn_packages.py"))["torn"]
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    (tmp_path / "thing.py").write_text("x = 1\n")
    (info / "RECORD").write_text("thing.py,,6\nthing-1.0.dist-info/METADATA,,\nthing-1.0.dist-info/RECORD,,\n")
    if damage == "cut file":
        (tmp_path / "thing.py").write_text("x =")
    elif damage == "no file":
        (tmp_path / "thing.py").unlink()
    elif damage == "no record":
        (info / "RECORD").unlink()
    assert torn(Distribution.at(info)) is (damage != "none")


def test_every_requirement_is_pinned() -> None:
    pins = {line.split("==")[0] for line in (ROOT / "requirements/constraints.txt").read_text().splitlines()}
    for path in (ROOT / "requirements").glob("*.in"):
        for line in path.read_text().splitlines():
            name = line.split("#")[0].split("==")[0].split(">")[0].split("<")[0].strip()
            assert not name or name.lower().replace("_", "-") in pins, f"{path.name}: {name} is not pinned: make lock"

"""The images are checked without a Docker engine: lint, non-root, exec form, the same set-up script."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).resolve().parent.parent / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", path.read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word.upper(), rest) for word, rest in lines]


def test_both_images_are_there() -> None:
    assert [path.name for path in DOCKERFILES] == ["robot.Dockerfile", "trainer.Dockerfile"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = shutil.which("hadolint")
    assert hadolint, "hadolint is part of requirements/dev.in: run 'make setup'"
    result = subprocess.run([hadolint, "--config", DOCKER / "hadolint.yaml", path], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_final_stage_is_not_root_and_starts_in_exec_form(path: Path) -> None:
    steps = instructions(path)
    starts = [index for index, (word, _) in enumerate(steps) if word == "FROM"]
    assert len(starts) >= 2, "one stage only: the build tools would ship"
    final = dict(steps[starts[-1] :])
    assert final["USER"] not in ("root", "0")
    assert json.loads(final["ENTRYPOINT"]) == ["/opt/aloe/docker/entrypoint.sh"]
    assert isinstance(json.loads(final["CMD"]), list)
    assert any("scripts/setup.sh" in rest for word, rest in steps if word == "RUN")


def test_entry_point_is_executable() -> None:
    assert (DOCKER / "entrypoint.sh").stat().st_mode & 0o111


def test_compose_shares_memory_and_asks_for_no_privilege() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    for service in services.values():
        assert "privileged" not in service
        assert service["cap_drop"] == ["ALL"]
        assert (DOCKER.parent / service["build"]["dockerfile"]).exists()
    assert services["robot"]["network_mode"] == "host"

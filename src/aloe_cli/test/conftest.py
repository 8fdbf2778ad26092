import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aloe_cli.__main__ import main
from cli_tools import Done


@pytest.fixture(autouse=True)
def logs_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))


@pytest.fixture
def launch_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a launch file around `body`, whose first line becomes line 2."""

    def write(body: str, name: str = "test.launch.xml") -> Path:
        path = tmp_path / name
        path.write_text(f"<launch>\n{body}\n</launch>\n")
        return path

    return write


@pytest.fixture
def run(capsys, monkeypatch):
    """Run `./aloe` in this process: torch and mujoco are imported only once."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["aloe", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(ended.value.code, *capsys.readouterr())

    return call

"""Policies with random weights, saved by LeRobot's own code; nothing may be downloaded."""

import pytest
from lerobot_tools import HERE, SAVED, SMALL, run

from aloe_cli import lerobot


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory):
    """No hub but a cache of our own, and a Python of LeRobot's whose π0 and π0.5 are small."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{lerobot.interpreter()}" "{HERE / "small_pi.py"}" "$@"\n')
    python.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HUB_CACHE", str(folder / "hub"))
        patch.setenv(SMALL, str(folder))
        yield


@pytest.fixture(scope="session")
def saved(tmp_path_factory, offline):
    """A folder with a policy of each kind."""
    folder = tmp_path_factory.mktemp("lerobot")
    run("save_random.py", folder, *SAVED)
    return folder

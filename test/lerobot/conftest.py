"""Policies with random weights, saved by LeRobot's own code; nothing may be downloaded."""

import pytest
from lerobot_tools import KINDS, run


@pytest.fixture(scope="session", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def saved(tmp_path_factory, offline):
    """A folder with a policy of each kind."""
    folder = tmp_path_factory.mktemp("lerobot")
    run("save_random.py", folder, *KINDS)
    return folder

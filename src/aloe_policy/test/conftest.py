import importlib.util
import os
from pathlib import Path

import pytest

if importlib.util.find_spec("rclpy"):
    from aloe_ros.testing import own_domain

    own_domain()


@pytest.fixture
def helpers_on_path(monkeypatch):
    """Let node processes import the helpers in this folder."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

import importlib.util
import os
from pathlib import Path

import pytest

if not importlib.util.find_spec("rclpy"):  # the policy works without ROS; its nodes do not
    collect_ignore = [
        "test_camera_node.py",
        "test_policy_node.py",
        "test_policy_node_remote.py",
        "test_policy_node_url.py",
    ]


@pytest.fixture
def helpers_on_path(monkeypatch):
    """Let node processes import the helpers in this folder."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

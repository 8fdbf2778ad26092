"""What the tests of LeRobot's policies share: its environment's Python, a robot, an observation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src/aloe_policy/test"))

from aloe_cli import lerobot
from aloe_core.contract import RobotContract
from aloe_core.types import Observation
from tiny_policy import CONTRACT, tiny_contract

HERE = Path(__file__).parent
HORIZON = 12
STATE = np.array([0.5, -1.0], np.float32)
VERB = [sys.executable, "-m", "aloe_cli", "policy-server", "--port", "0", "--lerobot"]
KINDS = ["act", "smolvla"]


def run(script: str, *arguments: object) -> str:
    """Return what a script of this folder prints in LeRobot's environment."""
    command = [str(lerobot.interpreter()), str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, env=lerobot.environment(), capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def contract() -> RobotContract:
    cameras = [camera | {"width": 64, "height": 64} for camera in CONTRACT["cameras"]]
    return tiny_contract(cameras=cameras, chunk={"horizon": HORIZON, "execute": 6})


def observation(level: int = 128) -> Observation:
    images = {name: np.full((64, 64, 3), level, np.uint8) for name in ("front", "wrist")}
    return Observation(0, images, STATE, "sort the blocks")

"""What the tests of LeRobot's policies share: its environment's Python, a robot, an observation."""

from __future__ import annotations

import os
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
KINDS = ["act", "smolvla", "pi0", "pi05"]
SAVED = [*KINDS, "smolvla_framed", "pi0_relative", "pi0_third", "pi05_bfloat16"]
SMALL = "ALOE_TEST_SMALL_PI"  # folder like LeRobot's environment, see small_pi.py


def serve(policy: Path) -> list[str]:
    """Return the command that serves a policy of this kind, which the folder's name begins with."""
    return [
        *(["env", f"{lerobot.ENVIRONMENT}={os.environ[SMALL]}"] if policy.name[:2] == "pi" else []),
        *VERB,
        str(policy),
    ]


def run(script: str, *arguments: object, small: bool = False) -> str:
    """Return what a script of this folder prints in LeRobot's environment."""
    python = Path(os.environ[SMALL]) / "bin" / "python" if small else lerobot.interpreter()
    command = [str(python), str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, env=lerobot.environment(), capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def contract() -> RobotContract:
    cameras = [camera | {"width": 64, "height": 64} for camera in CONTRACT["cameras"]]
    return tiny_contract(cameras=cameras, chunk={"horizon": HORIZON, "execute": 6})


def observation(level: int = 128) -> Observation:
    images = {name: np.full((64, 64, 3), level, np.uint8) for name in ("front", "wrist")}
    return Observation(0, images, STATE, "sort the blocks")

"""LeRobot's own environment: its torch and its Python are others than the suite's (docs/policies.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from aloe_cli import paths
from aloe_core.checkpoint import latest
from aloe_core.errors import AloeError

ENVIRONMENT = "ALOE_LEROBOT_VENV"  # where the environment is, if not beside the suite's
PACKAGES = ("aloe_core", "aloe_policy", "aloe_critic")  # of the suite, which a server that trains needs
SERVER, TRAINER = "aloe_policy.remote.lerobot", "aloe_critic.remote.lerobot"
SPEED = "aloe_policy.remote.lerobot.speed"  # what `bench infer-gpu` runs


def serve(policy: Path, **options: object) -> NoReturn:
    """Become a server of a policy that LeRobot saved; AloeError if there is none, or no environment for it.

    `policy` may be a folder of versions whose LATEST is meant. With the option `train` the server trains as well.
    """
    policy = _version(policy)
    if not (policy / "config.json").is_file():
        raise AloeError(f"{policy}: expected a folder with config.json and model.safetensors, as LeRobot saves one.")
    python = str(interpreter())
    given = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    module = TRAINER if "train" in options else SERVER
    os.execve(python, [python, "-m", module, "--policy", str(policy), *given], environment())


def _version(folder: Path) -> Path:
    return folder if (folder / "config.json").is_file() or not folder.is_dir() else latest(folder) or folder


def interpreter() -> Path:
    """Return the Python of the environment; AloeError if there is none."""
    folder = Path(os.environ.get(ENVIRONMENT) or Path(__file__).resolve().parents[3] / ".venv-lerobot")
    python = folder / "bin" / "python"
    if not python.exists():
        raise AloeError(f"{folder}: no LeRobot environment; make it with scripts/lerobot.sh (5.3 GB).")
    return python


def environment() -> dict[str, str]:
    """Return the environment variables for it: nothing of ROS, this suite's packages on the path."""
    kept = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")}
    folders = [str(paths.resource(f"src/{name}")) for name in PACKAGES]
    return kept | {"PYTHONPATH": os.pathsep.join(folders)}

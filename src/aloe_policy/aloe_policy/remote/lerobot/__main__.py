"""Entry point of `./aloe policy-server --lerobot`, in LeRobot's environment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aloe_core.errors import AloeError


def main() -> int:
    parser = argparse.ArgumentParser(prog="policy-server --lerobot")
    parser.add_argument("--policy", type=Path, required=True, help="folder that LeRobot saved")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--code", choices=("lerobot", "graph"), default="lerobot", help="graph: fast, on a GPU")
    given = parser.parse_args()
    try:
        _serve(given)
    except AloeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _serve(given: argparse.Namespace) -> None:
    import torch

    from aloe_policy.remote.lerobot.fast.policy import accelerated
    from aloe_policy.remote.lerobot.loading import load
    from aloe_policy.remote.lerobot.service import LeRobotService
    from aloe_policy.remote.process import serve_until_signal

    torch.set_num_threads(given.threads)
    policy = load(given.policy, given.device)
    fast = accelerated(policy.model, policy.version) if given.code == "graph" else None
    serve_until_signal(LeRobotService(policy, fast), given.host, given.port)


if __name__ == "__main__":
    sys.exit(main())

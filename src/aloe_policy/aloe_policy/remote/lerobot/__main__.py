"""Entry point of `./aloe policy-server --lerobot`, in LeRobot's environment."""

from __future__ import annotations

import argparse
import sys

from aloe_policy.remote.lerobot import command


def main() -> int:
    parser = command.make_parser("policy-server --lerobot", "folder that LeRobot saved")
    parser.add_argument("--code", choices=("lerobot", "graph"), default="lerobot", help="graph: fast, on a GPU")
    return command.run(parser, _serve)


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

"""Entry point of `./aloe policy-server --lerobot DIR --train …`, in LeRobot's environment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aloe_policy.remote.lerobot import command


def main() -> int:
    parser = command.make_parser("policy-server --lerobot --train", "folder that LeRobot, or this server, saved")
    parser.add_argument("--train", required=True, help="expert or lora")
    parser.add_argument("--rank", type=int, default=16, help="of adapters")
    parser.add_argument("--out", type=Path, required=True, help="folder of versions")
    return command.run(parser, _serve)


def _serve(given: argparse.Namespace) -> None:
    import torch

    from aloe_critic.remote.lerobot.trainee import LeRobotTrainee
    from aloe_critic.remote.service import TrainingService
    from aloe_critic.remote.session import Session
    from aloe_policy.remote.lerobot.loading import load
    from aloe_policy.remote.lerobot.service import LeRobotService
    from aloe_policy.remote.process import serve_until_signal

    torch.set_num_threads(given.threads)
    policy = load(given.policy, given.device)
    driving = LeRobotService(policy)
    trainee = LeRobotTrainee(policy, given.train, given.rank)
    parent = given.policy.name if given.policy.resolve().parent == given.out.resolve() else ""
    service = TrainingService(driving, trainee, Session(trainee, given.out, parent))
    try:
        serve_until_signal(service, given.host, given.port)
    finally:
        service.keep()


if __name__ == "__main__":
    sys.exit(main())

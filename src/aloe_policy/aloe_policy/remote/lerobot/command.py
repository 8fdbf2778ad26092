"""What both entry points in LeRobot's environment share: the options of a served policy, and how errors end them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from aloe_core.errors import AloeError


def make_parser(prog: str, policy: str) -> argparse.ArgumentParser:
    """Return a parser of what every served policy needs; `policy` says what --policy is."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("--policy", type=Path, required=True, help=policy)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def run(parser: argparse.ArgumentParser, serve: Callable[[argparse.Namespace], None]) -> int:
    """Serve what the command line asks for; an AloeError is one sentence and exit status 2."""
    given = parser.parse_args()
    try:
        serve(given)
    except AloeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0

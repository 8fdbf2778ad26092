"""Where the suite's own launch files and configuration lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from aloe_cli.launch import packages
from aloe_core.errors import AloeError

CONTRACT = "config/robots/aloha_sim.yaml"
ContractOption = Annotated[
    Path | None, typer.Option(help=f"Robot contract; default: {CONTRACT} of this suite.", metavar="FILE")
]


def resource(relative: str) -> Path:
    """Return a file of the suite, from the source tree if this is one, else from where aloe_bringup is installed."""
    source = Path(__file__).resolve().parents[3] / relative
    if source.exists():
        return source
    if os.environ.get("AMENT_PREFIX_PATH"):
        installed = packages.share("aloe_bringup") / relative
        if installed.exists():
            return installed
    raise AloeError(f"{relative}: neither in the source tree nor installed; run `make setup`.")


def contract(given: Path | None) -> Path:
    """Return the contract that was given, else the suite's default."""
    return given or resource(CONTRACT)

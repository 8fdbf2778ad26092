"""Contracts that a benchmark changes before it measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from aloe_core.contract import load_contract
from aloe_core.errors import AloeError


def with_cameras(base: Path, work: Path, cameras: int, pixels: int, camera_hz: float) -> Path:
    """Write `base` with other cameras to work/contract.yaml; AloeError if that is no contract."""
    document = _read(base)
    document["cameras"] = [
        {
            "name": f"camera_{k}",
            "topic": f"cameras/camera_{k}",
            "width": pixels,
            "height": pixels,
            "rate_hz": camera_hz,
            "frame_id": f"camera_{k}_optical_frame",
        }
        for k in range(cameras)
    ]
    return _write(document, work)


def with_horizon(base: Path, work: Path, horizon: int) -> Path:
    """Write `base` with chunks of `horizon` steps to work/contract.yaml; AloeError if that is no contract."""
    document = _read(base)
    execute = document["chunk"]["execute"]
    if horizon < execute:
        raise AloeError(f"horizon = {horizon}: expected at least the contract's execute, {execute}.")
    document["chunk"]["horizon"] = horizon
    return _write(document, work)


def _read(base: Path) -> dict[str, Any]:
    robot = load_contract(base)
    document: dict[str, Any] = yaml.safe_load(base.read_text())
    model = document.get("model")
    if model and model.get("file") and robot.folder and "://" not in model["file"]:
        model["file"] = str(robot.folder / model["file"])  # it is relative to the contract
    return document


def _write(document: dict[str, Any], work: Path) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    path = work / "contract.yaml"
    path.write_text(yaml.safe_dump(document))
    load_contract(path)
    return path

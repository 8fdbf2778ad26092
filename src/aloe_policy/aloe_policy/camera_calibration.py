"""Calibration files as camera_calibration writes them."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_core.contract import Camera
from aloe_core.errors import bad_value
from aloe_core.settings import read_yaml


@dataclass(frozen=True)
class Calibration:
    """The fields of sensor_msgs/CameraInfo; `k` and `p` are zero for a camera that is not calibrated."""

    model: str = ""
    d: tuple[float, ...] = ()
    k: tuple[float, ...] = (0.0,) * 9
    r: tuple[float, ...] = (0.0,) * 9
    p: tuple[float, ...] = (0.0,) * 12


def load_calibration(path: str, camera: Camera) -> Calibration:
    """Read a calibration of the contract's image size; AloeError names file, key, value and expectation."""
    data = read_yaml(path, "a mapping as camera_calibration writes it")
    for key, expected in (("image_width", camera.width), ("image_height", camera.height)):
        if data.get(key) != expected:
            raise bad_value(path, key, data.get(key), f"{expected}, the size of camera {camera.name}")
    return Calibration(
        model=str(data.get("distortion_model", "plumb_bob")),
        d=_numbers(path, data, "distortion_coefficients", None),
        k=_numbers(path, data, "camera_matrix", 9),
        r=_numbers(path, data, "rectification_matrix", 9),
        p=_numbers(path, data, "projection_matrix", 12),
    )


def _numbers(path: str, data: dict[str, object], key: str, count: int | None) -> tuple[float, ...]:
    entry = data.get(key)
    numbers = entry.get("data") if isinstance(entry, dict) else None
    if not isinstance(numbers, list) or (count is not None and len(numbers) != count):
        raise bad_value(path, f"{key}.data", numbers, f"a list of {count or 'some'} numbers")
    try:
        return tuple(float(number) for number in numbers)
    except (TypeError, ValueError) as error:
        raise bad_value(path, f"{key}.data", numbers, "numbers") from error

"""Times of a function on a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Times:
    """Median milliseconds of a call."""

    wall: float  # from the call until the device is done
    gpu: float | None  # between CUDA events before and after; None without a GPU


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def median_ms(call: Callable[[], Any], device: str, repeats: int) -> Times:
    """Time `repeats` calls, one after the other, after two that do not count."""
    for _ in range(2):
        call()
    walls, between = [], []
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.startswith("cuda") else None
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        if events:
            events[0].record()
        call()
        if events:
            events[1].record()
        synchronize(device)
        walls.append((time.perf_counter() - start) * 1e3)
        if events:
            between.append(events[0].elapsed_time(events[1]))
    return Times(statistics.median(walls), statistics.median(between) if between else None)

"""What a figure was measured on, and one core to measure it on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hardware() -> str:
    """Return the processor's model and the number of its cores that this process may use."""
    return f"{_model()}, {len(os.sched_getaffinity(0))} cores"


def learned_on(device: str) -> str:
    """Return `hardware` and the GPU that networks were fitted on, if one was."""
    import torch

    gpu = torch.cuda.get_device_name(torch.device(device)) if device.startswith("cuda") else "no GPU"
    return f"{hardware()}, {gpu} used"


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and whatever threads it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()

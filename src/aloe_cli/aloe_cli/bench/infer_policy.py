"""What eight chunks cost over one, for `./aloe bench infer`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from aloe_core.contract import RobotContract
from aloe_core.types import Observation
from aloe_policy.runtime import load_runtime


def eight_over_one(checkpoint: Path, contract: RobotContract, repeats: int = 30) -> float:
    """Return the median time of 8 chunks for one observation over that of 1, in one thread, by turns."""
    torch.set_num_threads(1)
    runtimes = [load_runtime(checkpoint, contract, candidates=n) for n in (8, 1)]
    rng = np.random.default_rng(0)
    observation = Observation(
        stamp=0,
        images={c.name: rng.integers(0, 255, (c.height, c.width, 3), dtype=np.uint8) for c in contract.cameras},
        state=((contract.lower + contract.upper) / 2).astype(np.float32),
        instruction="measure",
    )
    times: list[list[float]] = [[], []]
    for repeat in range(repeats + 3):
        for runtime, seen in zip(runtimes, times, strict=True):
            start = time.perf_counter()
            runtime.infer(observation)
            if repeat >= 3:  # the first ones allocate
                seen.append(time.perf_counter() - start)
    return float(np.median(times[0]) / np.median(times[1]))

"""One model's row: our chunks, LeRobot's own, what is between them, and the floor."""

from __future__ import annotations

import copy
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from aloe_policy.remote.lerobot.fast.graph import Graph
from aloe_policy.remote.lerobot.fast.policy import FastChunks
from aloe_policy.remote.lerobot.speed import floor, models
from aloe_policy.remote.lerobot.speed.timing import median_ms, synchronize

N = 8
TESTED = (11, 12)  # observations on which outputs are compared, N chunks of each


@torch.no_grad()
def row(kind: str, device: str, *, small: bool, repeats: int, compiled: bool = True) -> dict[str, Any]:
    """Everything but LeRobot's compiled code, which may take minutes to compile (`compiled_by_lerobot`)."""
    on_gpu = device.startswith("cuda")
    policy = models.build(kind, device, small=small)
    batch, one, many = models.observation(device, 1), models.noise(1, device, 2), models.noise(N, device, 3)
    synchronize(device)
    start = time.perf_counter()
    dtype = torch.float32 if small else torch.bfloat16
    fast = FastChunks(policy, dtype, compiled=compiled and on_gpu, graphed=on_gpu)
    fast(batch, 1, noise=one)
    fast(batch, N, noise=many)
    synchronize(device)
    warm_up = time.perf_counter() - start
    chunk = median_ms(lambda: fast(batch, 1, noise=one), device, repeats)
    eight = median_ms(lambda: fast(batch, N, noise=many), device, repeats)
    eager = median_ms(lambda: by_lerobot(policy, batch, one), device, max(3, repeats // 10))
    found: dict[str, Any] = {
        "model": kind,
        "chunk_ms": round(chunk.wall, 3),
        "lerobot_eager_ms": round(eager.wall, 3),
        "lerobot_compiled_ms": None,
        "floor_ms": None,
        "eight_chunks_ms": round(eight.wall, 3),
        "warmup_s": round(warm_up, 2),
        "max_rel_err": None,
        "hardware": hardware(device),
        "chunk_gpu_ms": chunk.gpu and round(chunk.gpu, 3),
        "eight_chunks_gpu_ms": eight.gpu and round(eight.gpu, 3),
        "weights": sum(weight.numel() for weight in policy.parameters()),
        "dtype": str(dtype).removeprefix("torch."),
        "compiled": fast.compiled,
        "graphed": fast.graphed,
    }
    found["stages_ms"] = stages(fast, batch, device, repeats, chunk.gpu or chunk.wall)
    if on_gpu:
        rates = floor.measured_rates(device)
        seen = fast.network.seen(**fast.network.inputs(batch))
        found["floor_ms"], found["eight_chunks_floor_ms"] = (
            round(floor.floor_ms(fast.network, seen, n, rates), 3) for n in (1, N)
        )
        found["bfloat16_tflops"] = round(rates.operations / 1e12, 1)
        found["copy_tb_s"] = round(rates.bytes_read / 1e12, 3)
    return found | errors(policy, fast, device)


def stages(fast: FastChunks, batch: dict[str, Any], device: str, repeats: int, whole: float) -> dict[str, float]:
    """Return where the time of one chunk goes: images to tokens, prefix, flow; each recorded as the whole is."""
    network = fast.network
    inputs = network.inputs(batch)

    def seen(given: dict[str, Tensor]) -> Any:
        return network.seen(**given)

    def encoded(given: dict[str, Tensor]) -> Any:
        return network.encoded(seen(given), False)

    ends = []
    for part in (seen, encoded):
        run = Graph(part, inputs) if fast.graphed else part
        taken = median_ms(partial(run, inputs), device, repeats)
        ends.append(taken.gpu or taken.wall)
    return {
        "images": round(ends[0], 3),
        "prefix": round(ends[1] - ends[0], 3),
        "flow": round(whole - ends[1], 3),
    }


def errors(policy: Any, fast: FastChunks, device: str) -> dict[str, float]:
    """Return the largest error of a chunk against LeRobot's, |a - b| / |b|, of ours; and of both against float32."""
    ours, theirs, exact = [], [], []
    wide = copy.deepcopy(policy).float()
    for seed in TESTED:
        batch, given = models.observation(device, seed), models.noise(N, device, 100 + seed)
        ours.append(fast(batch, N, noise=given)[0].float())
        theirs.append(torch.cat([by_lerobot(policy, batch, each[None]) for each in given]).float())
        exact.append(torch.cat([by_lerobot(wide, batch, each[None]) for each in given]))
    first, second, third = (torch.cat(each) for each in (ours, theirs, exact))
    return {
        "max_rel_err": _largest(first, second),
        "max_rel_err_float32": _largest(first, third),
        "lerobot_max_rel_err_float32": _largest(second, third),
    }


def _largest(found: Tensor, expected: Tensor) -> float:
    distance = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    return float(f"{distance.max().item():.3g}")


def by_lerobot(policy: Any, batch: dict[str, Any], noise: Tensor) -> Tensor:
    policy.reset()
    return policy.predict_action_chunk(dict(batch), noise=noise)


@torch.no_grad()
def compiled_by_lerobot(kind: str, device: str, *, repeats: int, limit: int) -> dict[str, Any]:
    """Time LeRobot's code as its compile_model does it, in mode reduce-overhead; gives up after `limit` seconds."""
    policy = models.build(kind, device, small=False)
    net = policy.model
    torch.set_float32_matmul_precision("high")
    net.sample_actions = torch.compile(net.sample_actions, mode="reduce-overhead")
    batch, one = models.observation(device, 1), models.noise(1, device, 2)
    start = time.perf_counter()
    try:
        with _at_most(limit):
            for _ in range(3):
                by_lerobot(policy, batch, one)
            synchronize(device)
            warm_up = time.perf_counter() - start
            taken = median_ms(lambda: by_lerobot(policy, batch, one), device, repeats).wall
    except (TimeoutError, RuntimeError) as error:  # the compiler may wrap the first in the second
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if time.perf_counter() - start >= limit:
            why = f"not compiled after {limit} s"
        return {"lerobot_compiled_note": why}
    finally:
        torch.set_float32_matmul_precision("highest")
    return {"lerobot_compiled_ms": round(taken, 3), "lerobot_compiled_warmup_s": round(warm_up, 1)}


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """TimeoutError in the main thread after so many seconds."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def hardware(device: str) -> str:
    """Return what it was measured on, and torch's version."""
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads, no GPU"
    return f"{name}, torch {torch.__version__}"

"""Data-parallel training under torchrun: every process draws the same global batch and works on its share of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from aloe_core.errors import AloeError


def world() -> tuple[int, int]:
    """Return this process's rank and how many there are; (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_chief() -> bool:
    """Whether this process writes files and talks to people."""
    return world()[0] == 0


@contextmanager
def group(device: str = "cpu") -> Iterator[None]:
    """Join the group that torchrun describes in the environment, if it does, for as long as the context lasts."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Votes and losses that are on the CPU go by gloo in any case.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
        dist.barrier()  # a process whose peer has left already is aborted by gloo
    finally:
        dist.destroy_process_group()


def share(batch: Tensor) -> Tensor:
    """Return this process's part of a global batch, [B, ...] -> [B / world, ...]; AloeError if it cannot be split.

    All processes must have drawn the same batch, from generators in the same state: then training does not depend on
    how many they are, up to the order of sums.
    """
    rank, count = world()
    if len(batch) % count:
        raise AloeError(f"A batch of {len(batch)} cannot be split among {count} processes; choose a multiple.")
    return batch.chunk(count)[rank] if count > 1 else batch


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; the loss must be a mean over the share.

    Gradients of sharded parameters are means already.
    """
    _, count = world()
    gradients = [p.grad for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]
    if count == 1 or not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= count
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def agree(flag: bool) -> bool:
    """Return whether any process says so; a signal reaches them at different steps."""
    return highest(int(flag)) > 0


def highest(number: int) -> int:
    """Return the highest number that any process says."""
    if world()[1] == 1:
        return number
    said = torch.tensor(number)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return int(said)


def mean(value: Tensor) -> Tensor:
    """Return the mean of a scalar over the processes."""
    if world()[1] == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world()[1]


@contextmanager
def chief_first() -> Iterator[None]:
    """Let the first process through before the others, who then find what it made."""
    if not is_chief():
        wait()
    try:
        yield
    finally:
        if is_chief():
            wait()


def wait() -> None:
    """Return when all processes have come here."""
    if world()[1] > 1:
        dist.barrier()

"""When chunks of a delayed policy follow each other, and what one hands to the next; time in control steps.

A chunk computed from the observation at step 0 arrives d steps later: its rows d to execute - 1 run, and the next one
is observed s = execute - d steps after it. Real-time chunking (arXiv 2506.07339) asks for d <= s <= H - d.
"""

from __future__ import annotations

from dataclasses import replace

from aloe_core.errors import AloeError
from aloe_core.types import Chunk, Plan


def longest_delay(horizon: int) -> int:
    """Return the largest delay for which every chunk of `horizon` steps can hand over to the next one."""
    return horizon // 2


def check_delay(horizon: int, delay: int) -> None:
    """AloeError unless 0 <= d and an s with d <= s <= H - d exists."""
    if not 0 <= delay <= longest_delay(horizon):
        raise AloeError(
            f"delay = {delay} control steps: expected 0 to {longest_delay(horizon)}, half of the horizon of {horizon}, "
            "since d <= s <= H - d."
        )


def paced(chunk: Chunk, delay: int) -> Chunk:
    """Return `chunk` with as many leading rows meant to run as it asks for, or more so that s >= d."""
    execute = min(max(chunk.execute, 2 * delay), len(chunk.actions))
    return chunk if execute == chunk.execute else replace(chunk, execute=execute)


def plan_after(chunk: Chunk, stamp: int, frozen: int) -> Plan | None:
    """Return what `chunk` still holds at `stamp` (ns), with `frozen` rows that will run; None if nothing is left."""
    row = chunk.index_at(stamp)
    if not 0 <= row < len(chunk.actions):
        return None
    left = chunk.actions[row:]
    return Plan(left, max(0, min(frozen, len(left))))

"""When chunks of a delayed policy follow each other, and what one hands to the next; time in control steps.

A chunk computed from the observation at step 0 arrives d steps later: its rows d to execute - 1 run, and the next one
is observed s = execute - d steps after it. Real-time chunking (arXiv 2506.07339) asks for d <= s <= H - d.
"""

from __future__ import annotations

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.types import Chunk, Plan


def longest_delay(contract: RobotContract) -> int:
    """Return the largest delay for which every chunk can still hand over to the next one."""
    return contract.chunk.horizon // 2


def check_delay(contract: RobotContract, delay: int) -> None:
    """AloeError unless 0 <= d and an s with d <= s <= H - d exists."""
    if not 0 <= delay <= longest_delay(contract):
        raise AloeError(
            f"delay = {delay} control steps: expected 0 to {longest_delay(contract)}, half of the horizon of "
            f"{contract.chunk.horizon}, since d <= s <= H - d."
        )


def execute_steps(contract: RobotContract, delay: int) -> int:
    """Return how many leading rows of a chunk run if answers take `delay`: the contract's, or more so that s >= d."""
    return min(max(contract.chunk.execute, 2 * delay), contract.chunk.horizon)


def plan_after(chunk: Chunk, stamp: int, frozen: int) -> Plan | None:
    """Return what `chunk` still holds at `stamp` (ns), with `frozen` rows that will run; None if nothing is left."""
    row = chunk.index_at(stamp)
    if not 0 <= row < len(chunk.actions):
        return None
    left = chunk.actions[row:]
    return Plan(left, max(0, min(frozen, len(left))))

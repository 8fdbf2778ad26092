"""Bits flipped and bytes cut off in bags of real episodes: told, and at most the chunk concerned is lost."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from aloe_core.contract import RobotContract
from aloe_core.episode import scan
from aloe_core.episode.check import check_bag
from aloe_core.episode.recover import recover_bag


@dataclass
class Damage:
    """What came of the damaged copies."""

    flips: int = 0
    flips_told: int = 0
    cuts: int = 0
    cuts_told: int = 0
    kept: int = 0  # copies of which recovery kept all that was in whole chunks


def damage(bag: Path, contract: RobotContract, work: Path, times: int, rng: random.Random) -> Damage:
    """Damage `times` copies of a whole bag by one bit and `times` by a cut; `work` takes one copy at a time."""
    data = next(bag.glob("*.mcap")).read_bytes()
    chunks = _chunks(data)
    total = sum(count for _, _, count in chunks)
    seen = Damage()
    for number in range(2 * times):
        at = rng.randrange(len(data))
        flips = number < times
        broken = bytearray(data) if flips else bytearray(data[:at])
        if flips:
            broken[at] ^= 1 << rng.randrange(8)
            least = total - max(count for _, _, count in chunks)
        else:
            least = sum(count for _, end, count in chunks if end <= at)
        copy = work / bag.name
        shutil.copytree(bag, copy)
        next(copy.glob("*.mcap")).write_bytes(broken)
        told = not check_bag(copy, contract).ok
        kept = recover_bag(copy).messages >= least
        shutil.rmtree(work)
        seen.flips += flips
        seen.cuts += not flips
        seen.flips_told += flips and told
        seen.cuts_told += told and not flips
        seen.kept += kept
    return seen


def _chunks(data: bytes) -> list[tuple[int, int, int]]:
    """Return (start, end, messages) of each chunk of a whole file."""
    found = []
    for record in scan.walk(memoryview(data)):
        if isinstance(record, scan.Record) and record.opcode == scan.CHUNK:
            items = scan.chunk_records(scan.chunk_data(record))
            count = sum(isinstance(item, scan.Message) for item in items)
            found.append((record.start, record.start + 9 + len(record.body), count))
    return found

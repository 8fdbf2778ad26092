"""Names of episodes and of the directories they are kept in."""

from __future__ import annotations

import re
import secrets
import time

PARTIAL = ".partial"  # suffix of a directory that is being written
TRASH = "trash"  # folder, beside the bags, for what was discarded or replaced
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_ulid(unix_ms: int | None = None) -> str:
    """Return a ULID (26 characters): sorts by time to the millisecond, random below that."""
    value = ((time.time_ns() // 1_000_000 if unix_ms is None else unix_ms) << 80) | secrets.randbits(80)
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


def bag_name(episode_id: str, task: str, unix_s: float | None = None) -> str:
    """Return `<utc>_<episode id>_<task>` with everything that does not belong in a file name replaced."""
    utc = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(unix_s))
    return "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip(".-") or "none" for part in (utc, episode_id, task))

"""Task text to token ids by hashing, so that no vocabulary file is needed and any word has an id."""

from __future__ import annotations

import re
import zlib

MAX_WORDS = 16
PAD = 0


def tokenize(text: str, buckets: int) -> list[int]:
    """Return MAX_WORDS ids in [1, buckets), padded with 0."""
    words = re.findall(r"[a-z0-9]+", text.lower())[:MAX_WORDS]
    ids = [1 + zlib.crc32(w.encode()) % (buckets - 1) for w in words]
    return ids + [PAD] * (MAX_WORDS - len(ids))

"""How chunks of one run follow each other, as declared; see docs/policies.md."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_core.errors import AloeError

MODES = ("receding", "ensemble", "rtc", "prefix")
G_MAX = 5.0  # largest weight of the guidance (arXiv 2506.07339)
FRESH = 0.5


@dataclass(frozen=True)
class Chunking:
    """receding: a chunk simply replaces the one before. ensemble: overlapping rows are averaged.

    rtc: guided while it is sampled. prefix: given to a policy that was trained so.
    """

    mode: str = "receding"
    g_max: float = G_MAX  # rtc: largest weight of the guidance
    fresh: float = FRESH  # ensemble: share of the newest chunk

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise AloeError(f"chunking = {self.mode!r}: expected one of {', '.join(MODES)}.")
        if not 0 < self.fresh <= 1:
            raise AloeError(f"ensemble_fresh = {self.fresh:g}: expected more than 0, at most 1.")
        if self.g_max < 0:
            raise AloeError(f"guidance_max = {self.g_max:g}: expected 0 or more.")

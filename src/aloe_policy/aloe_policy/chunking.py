"""How chunks of one run follow each other, as declared; see docs/policies.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from aloe_core.errors import AloeError
from aloe_policy.ensembling import FRESH
from aloe_policy.rtc import G_MAX

Mode = Literal["receding", "ensemble", "rtc"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True)
class Chunking:
    """receding: a chunk simply replaces the one before. ensemble: overlapping rows are averaged. rtc: guided."""

    mode: str = "receding"
    g_max: float = G_MAX  # rtc: the largest weight of the guidance
    fresh: float = FRESH  # ensemble: share of the newest chunk

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise AloeError(f"chunking = {self.mode!r}: expected one of {', '.join(MODES)}.")
        if not 0 < self.fresh <= 1:
            raise AloeError(f"ensemble_fresh = {self.fresh:g}: expected more than 0, at most 1.")
        if self.g_max < 0:
            raise AloeError(f"guidance_max = {self.g_max:g}: expected 0 or more.")

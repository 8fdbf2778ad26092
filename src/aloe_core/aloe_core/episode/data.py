"""An episode on the control grid, as learners see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np


class Source(IntEnum):
    """Who commanded a step; values of ExecutedStep.SOURCE_*."""

    HOLD = 0
    POLICY = 1
    HUMAN = 2
    RESET = 3


class Outcome(IntEnum):
    """How the task went; values of EpisodeEvent.OUTCOME_*."""

    NONE = 0
    SUCCESS = 1
    FAILURE = 2
    ABORTED = 3


@dataclass(frozen=True)
class Frames:
    """JPEG frames of one camera."""

    stamps: np.ndarray  # int64 [F], ns
    jpegs: tuple[bytes, ...]

    def newest(self, stamps: np.ndarray) -> np.ndarray:
        """Return, for each stamp (ns), the index of the newest frame not after it, -1 if none."""
        return np.searchsorted(self.stamps, stamps, side="right") - 1


@dataclass(frozen=True)
class EpisodeData:
    """T control steps; row T of `state` is what followed the last one."""

    episode_id: str
    task: str
    instruction: str
    seed: int
    outcome: Outcome
    end: str  # terminated | truncated | aborted
    contract_hash: str
    dt: float  # s
    stamps: np.ndarray  # int64 [T+1], ns: the joint state each step answers
    state: np.ndarray  # float32 [T+1, J], joint positions in contract order
    requested: np.ndarray  # float32 [T, A]; NaN where nothing was requested
    executed: np.ndarray  # float32 [T, A]
    source: np.ndarray  # uint8 [T], Source; HUMAN when a person holds any joint group
    chunk: np.ndarray  # int32 [T], index into chunk_ids, -1 for none
    chunk_index: np.ndarray  # int32 [T], row within that chunk, -1 for none
    frames: dict[str, Frames]  # camera name -> frames
    chunk_ids: tuple[str, ...] = ()
    policy_versions: tuple[str, ...] = ()  # of each chunk
    breaks: tuple[int, ...] = ()  # steps whose successor is missing: row t + 1 is not what followed step t
    info: dict[str, object] = field(default_factory=dict)
    group_source: np.ndarray | None = None  # uint8 [T, G], Source of each joint group; None in older bags
    objects: np.ndarray | None = None  # float32 [T+1, P], poses in place of frames; simulation only, in no bag

    @property
    def steps(self) -> int:
        return len(self.source)

    @property
    def terminated(self) -> bool:
        return self.end == "terminated"

"""The tables of a replay: what is known of every observation row, window, frame and episode, one column each."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData, Source
from aloe_core.episode.transitions import chunk_transitions
from aloe_critic.replay.columns import Column, FileColumn, Spec

# Columns of one group have the same number of rows.
GROUPS = {
    "row": ("frame", "state", "instruction", "step"),
    "step": ("executed",),
    "frame": ("payload",),
    "window": ("episode", "start", "obs", "next_obs", "plan_length", "length", "source", "ending"),
    "episode": ("first_row", "first_frame", "steps", "outcome", "human", "task", "entry"),
}


def spec(contract: RobotContract) -> Spec:
    """Return dtype and row shape of every column, for this contract."""
    cameras, joints = len(contract.cameras), contract.action_dim
    wide: Spec = {
        "frame": ("<i8", (cameras,)),  # number of each camera's frame
        "state": ("<f4", (joints,)),
        "step": ("<i4", ()),  # of the episode, ascending
        "executed": ("<f4", (joints,)),
        "payload": ("<i8", (2,)),  # where a frame begins in the store's payloads, and its bytes
        "source": ("u1", ()),
        "ending": ("u1", ()),  # Outcome of the episode if the window's executed part ends it, else 0
        "first_frame": ("<i8", (cameras,)),
    }
    return {name: wide.get(name, ("<i8", ())) for names in GROUPS.values() for name in names}


class Tables:
    """Columns by name."""

    def __init__(self, columns: dict[str, Column]) -> None:
        self.columns = columns

    def __getitem__(self, name: str) -> Tensor:
        """Return a column; not to be written to."""
        return self.columns[name].tensor()

    def count(self, group: str) -> int:
        """Return how many rows the columns of a group have."""
        return len(self.columns[GROUPS[group][0]])

    def append(
        self, ep: EpisodeData, contract: RobotContract, stride: int, *, instruction: int, task: int, entry: int
    ) -> None:
        """Add an episode; `instruction` and `task` are numbers of texts, `entry` where a store's journal has it."""
        h, horizon = contract.chunk.execute, contract.chunk.horizon
        short = chunk_transitions(ep, h, max_length=1, failure_cost=1, stride=stride)
        planned = chunk_transitions(ep, horizon, max_length=1, failure_cost=1, stride=stride)
        kept = np.union1d(short.start, short.next)  # the steps that have a row
        row, step = self.count("row"), self.count("step")
        first_frame, at = [], self.count("frame")
        for camera in contract.camera_names:
            first_frame.append(at)
            at += len(ep.frames[camera].jpegs)
        newest = [ep.frames[camera].newest(ep.stamps[kept]).clip(0) for camera in contract.camera_names]
        new = {
            "frame": np.stack(newest, 1) + np.array(first_frame),
            "state": ep.state[kept],
            "instruction": np.full(len(kept), instruction),
            "step": kept,
            "executed": ep.executed,
            "episode": np.full(len(short), self.count("episode")),
            "start": step + short.start,
            "obs": row + np.searchsorted(kept, short.start),
            "next_obs": row + np.searchsorted(kept, short.next),
            "plan_length": planned.length,
            "length": short.length,
            "source": short.source,
            "ending": np.where(short.terminated, int(ep.outcome), 0),
            "first_row": np.array([row]),
            "first_frame": np.array([first_frame]),
            "steps": np.array([ep.steps]),
            "outcome": np.array([int(ep.outcome)]),
            "human": np.array([int((ep.source == Source.HUMAN).sum())]),
            "task": np.array([task]),
            "entry": np.array([entry]),
            "payload": _payloads(ep, contract),
        }
        for name, value in new.items():
            self.columns[name].append(value)

    @property
    def bytes(self) -> int:
        """Size of all columns that lie in files."""
        return sum(column.bytes for column in self.columns.values() if isinstance(column, FileColumn))

    def release(self) -> None:
        """Let go of the pages that reading has made resident."""
        for column in self.columns.values():
            column.release()


def _payloads(ep: EpisodeData, contract: RobotContract) -> np.ndarray:
    """Where the frames of an episode lie, int64 [frames of all cameras, 2]; zeros for frames in memory."""
    where = []
    for camera in contract.camera_names:
        jpegs = ep.frames[camera].jpegs
        known = getattr(jpegs, "places", None)
        where.append(known() if known else np.zeros((len(jpegs), 2), np.int64))
    return np.concatenate(where)

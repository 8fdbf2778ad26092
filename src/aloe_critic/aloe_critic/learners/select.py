"""Which windows a method may imitate, bool [N] each."""

from __future__ import annotations

import torch
from torch import Tensor

from aloe_core.episode.data import Outcome, Source
from aloe_core.errors import AloeError
from aloe_critic.replay import Replay, Windows

NOTHING_GOOD = "no successful episode and no correction"


def driven(windows: Windows) -> Tensor:
    """Windows of a policy or a person; nobody wants to imitate a hold."""
    return human(windows) | (windows.source == int(Source.POLICY))


def driven_rows(windows: Windows, method: str) -> Tensor:
    """Return the indices of driven windows; AloeError if there are none."""
    rows = driven(windows).nonzero().squeeze(1)
    if len(rows) == 0:
        raise AloeError(f"Method {method}: no step of a policy or a person among the bags; record some first.")
    return rows


def imitated_rows(replay: Replay, windows: Windows, method: str, which: str) -> Tensor:
    """Return the indices of windows to imitate by weight: `all` driven, `filtered` or `unaided`; AloeError if none."""
    rows = driven_rows(windows, method)
    if which == "all":
        return rows
    keep = {"filtered": filtered, "unaided": unaided}[which](replay, windows)[rows]
    if not keep.any():
        raise AloeError(f"Method {method}: {NOTHING_GOOD} among the bags; record or label some.")
    return rows[keep]


def filtered(replay: Replay, windows: Windows) -> Tensor:
    """Windows of successful episodes, the policy's part included, and all corrections."""
    return driven(windows) & successful(replay, windows) | corrections(replay, windows)


def unaided(replay: Replay, windows: Windows) -> Tensor:
    """The filtered, less what a policy did before a person took over: its part is kept where it ended in success."""
    last = torch.full((len(replay.episodes),), -1).scatter_reduce(
        0, windows.episode[human(windows)], windows.obs[human(windows)], "amax"
    )
    return filtered(replay, windows) & (human(windows) | (windows.obs > last[windows.episode]))


def human(windows: Windows) -> Tensor:
    return windows.source == int(Source.HUMAN)


def successful(replay: Replay, windows: Windows) -> Tensor:
    """Windows of episodes that ended in success."""
    return replay.outcome(Outcome.SUCCESS)[windows.episode]


def corrections(replay: Replay, windows: Windows) -> Tensor:
    """A person's windows in episodes that a policy drove in as well, whatever their outcome."""
    mixed = torch.zeros(len(replay.episodes), dtype=torch.bool)
    mixed[windows.episode[windows.source == int(Source.POLICY)]] = True
    return human(windows) & mixed[windows.episode]


def demonstrations(replay: Replay, windows: Windows) -> Tensor:
    """A person's windows in successful episodes without a policy."""
    return human(windows) & ~corrections(replay, windows) & successful(replay, windows)

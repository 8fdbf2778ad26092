"""The batches of critics and state values, as hyperparameters ask for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aloe_core.episode.data import Outcome, Source
from aloe_critic.hyper import Hyper
from aloe_critic.replay.sampling import Sampler, human_or_not, window_weights
from aloe_critic.replay.view import Replay
from aloe_critic.replay.windows import Windows

Draw = Callable[[int], Tensor]  # batch size -> windows, int64 [batch]


def drawing(replay: Replay, windows: Windows, hyper: Hyper, rows: Tensor, human_share: float | None = None) -> Draw:
    """Return what draws among windows `rows`, with replacement, from torch's own generator, which runs save.

    `human_share` in place of the hyperparameter of that name. AloeError if no window may be drawn.
    """
    share = hyper.human_share if human_share is None else human_share
    if not (share or hyper.sample_source or hyper.sample_outcome or hyper.sample_task or hyper.sample_half_life):
        return lambda batch: rows[torch.randint(len(rows), (batch,))]
    weight = window_weights(
        replay,
        windows,
        source={Source[name.upper()]: factor for name, factor in hyper.sample_source.items()} or None,
        outcome={Outcome[name.upper()]: factor for name, factor in hyper.sample_outcome.items()} or None,
        task=hyper.sample_task or None,
        half_life=hyper.sample_half_life,
    )
    among = torch.zeros_like(weight)
    among[rows] = 1.0
    groups = human_or_not(windows) if share else None
    return Sampler(weight * among, seed=None, groups=groups, shares=(1 - share, share)).draw

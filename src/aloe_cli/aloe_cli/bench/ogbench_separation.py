"""Does a critic know, on play data it never saw, which chunks soon finish the task?"""

from __future__ import annotations

import numpy as np
import torch

from aloe_critic.evaluation.estimates import auc
from aloe_critic.flat.data import Transitions
from aloe_critic.flat.learner import FlatLearner

SOON = 50  # steps


def separation(learner: FlatLearner, held: Transitions, done: np.ndarray) -> float | None:
    """Chance that Q of a chunk is higher where the task is done within SOON steps than where not; done is bool [E, T].

    Only chunks that start before it is done count, and only where SOON steps follow; None if they are all of one kind.
    """
    rows = held.start.numpy()
    open_, soon = (~done).ravel()[rows], soon_done(done).ravel()[rows]
    seen = (rows % done.shape[1] < done.shape[1] - SOON) & open_
    if soon[seen].all() or not soon[seen].any():  # none seen: both
        return None
    pick, device = torch.as_tensor(np.flatnonzero(seen)), learner.device
    q = [
        learner.score(
            held.states[held.start[part]].to(device), learner.acted(held.chunk[part])[:, None].to(device)
        ).squeeze(1)
        for part in pick.split(2048)
    ]
    return auc(torch.cat(q).cpu().numpy(), soon[seen])


def soon_done(done: np.ndarray) -> np.ndarray:
    """Whether the task is done in one of the SOON steps after each: bool [E, T] -> bool [E, T]."""
    count = np.pad(done.cumsum(1), ((0, 0), (0, SOON)), mode="edge")
    return count[:, SOON:] > count[:, : done.shape[1]]

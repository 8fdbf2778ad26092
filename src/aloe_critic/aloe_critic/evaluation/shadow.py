"""Shadow evaluation: the new policy beside the previous one on observations of held-out bags, without a robot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_core.episode.transitions import chunk_transitions
from aloe_core.errors import AloeError
from aloe_critic.evaluation.estimates import RESAMPLES, estimate
from aloe_critic.evaluation.scores import Scorer, draw, observe
from aloe_policy.runtime import Models

DEVIATION_QUANTILE = 0.99  # the largest of thousands says more about one sample than about the policy


@torch.inference_mode()
def shadow(
    new: Models,
    previous: Models,
    episodes: Sequence[EpisodeData],
    contract: RobotContract,
    *,
    samples: int = 8,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compare both policies at the chunk starts of these episodes (with frames), by the new checkpoint's critic.

    * value_change: mean Q_pess of the new policy's chunks minus that of the previous one's, an `Estimate`;
    * value_change_selected: likewise for the best of `samples` chunks, which is what runs;
    * deviation: of both policies' chunks from the same noise, over the executed steps, largest joint, as a fraction of
      its range: 99th percentile; deviation_largest: maximum;
    * outside: share of the new policy's steps with a joint outside its limits, before they are clamped.

    The critic was fitted to the new policy, so it may flatter it: "not worse" is the most this can say.
    """
    if not episodes:
        raise AloeError("Shadow evaluation: no held-out episode.")
    scorer = Scorer(new, contract, samples)
    policy, cpu = previous.policy.eval(), torch.device("cpu")
    fresh, best, episode, deviation, outside = [], [], [], [], []
    lower, upper = (torch.tensor(v, dtype=torch.float32) for v in (contract.lower, contract.upper))
    for number, ep in enumerate(episodes):
        start = chunk_transitions(ep, contract.chunk.execute, max_length=1, failure_cost=1).start
        if not len(start):
            continue
        # Each policy sees with its own encoder, and the critic with the one it was fitted on.
        z, state = observe(scorer.policy, ep, start, contract, cpu)
        raw = draw(scorer.policy, z, state, samples, ep.episode_id)
        theirs = draw(policy, observe(policy, ep, start, contract, cpu)[0], state, samples, ep.episode_id)
        mine, theirs = raw.clamp(lower, upper), theirs.clamp(lower, upper)
        q_new, q_old = scorer.q_pess(z, state, mine), scorer.q_pess(z, state, theirs)
        fresh.append((q_new.mean(1) - q_old.mean(1)).double().numpy())
        best.append((q_new.max(1).values - q_old.max(1).values).double().numpy())
        episode.append(np.full(len(start), number))
        run = slice(0, contract.chunk.execute)
        apart = (mine - theirs)[:, :, run].abs() / (upper - lower)
        deviation.append(apart.amax(-1).flatten().double().numpy())
        beyond = (raw[:, :, run] < lower) | (raw[:, :, run] > upper)
        outside.append(beyond.any(-1).flatten().double().numpy())
    if not episode:
        raise AloeError("Shadow evaluation: no chunk in the held-out episodes.")
    of, apart_all = np.concatenate(episode), np.concatenate(deviation)
    return {
        "new": new.version,
        "previous": previous.version,
        "episodes": len(episode),
        "observations": len(of),
        "value_change": asdict(estimate(_mean, of, np.concatenate(fresh), resamples=resamples)),
        "value_change_selected": asdict(estimate(_mean, of, np.concatenate(best), resamples=resamples)),
        "deviation": float(np.quantile(apart_all, DEVIATION_QUANTILE)),
        "deviation_largest": float(apart_all.max()),
        "outside": float(np.concatenate(outside).mean()),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean())

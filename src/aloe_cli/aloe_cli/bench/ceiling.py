"""How well returns could be predicted at all: by exact values of the policy that drove, from states gone on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_core.errors import AloeError
from aloe_core.types import PolicyRuntime
from aloe_critic.evaluation.estimates import estimate, pearson, spearman
from aloe_critic.evaluation.realised import realised_returns
from aloe_critic.evaluation.scores import RewardScale
from aloe_sim.exact import exact_values
from aloe_sim.station import Station

EVERY = 4  # chunks between two states that are looked at


def ceiling(
    episodes: Sequence[EpisodeData],
    policy: PolicyRuntime,
    contract: RobotContract,
    scale: RewardScale,
    *,
    tries: int,
    observe: Literal["images", "objects"] = "images",
    say: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Return rank and linear correlation of the policy's exact values with the returns of its own `episodes`.

    No critic can be expected above: what remains is the policy's own chance. All episodes are of one task and level.
    """
    first = episodes[0]
    info = {key: str(first.info[key]) for key in ("level", "variant", "randomisation")}
    station = Station(
        contract,
        first.task,
        info["level"],
        info["variant"],
        randomisation=info["randomisation"],
        render=observe == "images",
    )
    units = {"gamma": scale.gamma, "max_length": scale.max_length, "failure_cost": scale.failure_cost}
    number, exact, realised, left_out = [], [], [], 0

    def worth(went_on: EpisodeData) -> float:
        return float(realised_returns(went_on, **units)[0])

    try:
        for i, ep in enumerate(episodes):
            say("exact values", i, len(episodes))
            steps = list(range(0, ep.steps, EVERY * contract.chunk.execute))
            try:
                exact.append(exact_values(station, ep, steps, policy, worth, tries=tries, observe=observe))
            except AloeError:  # contacts felt the rounding of recorded actions: counted, not judged
                left_out += 1
                continue
            realised.append(realised_returns(ep, **units)[steps])
            number.append(np.full(len(steps), i))
    finally:
        station.close()
    if not number:
        raise AloeError(f"None of {len(episodes)} episodes ends again as it was recorded: no exact values.")
    columns = np.concatenate(number), np.concatenate(exact), np.concatenate(realised)
    return {
        "spearman": asdict(estimate(spearman, *columns)),
        "pearson": asdict(estimate(pearson, *columns)),
        "tries": tries,
        "left_out": left_out,
    }

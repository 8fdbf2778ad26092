"""How well a critic could do at all: exact values of states and of chunks sampled there, by going on from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_core.errors import AloeError
from aloe_core.types import Observation, PolicyRuntime
from aloe_critic.evaluation.estimates import estimate, pearson, spearman
from aloe_critic.evaluation.realised import realised_returns
from aloe_critic.evaluation.scores import RewardScale
from aloe_policy.runtime import FlowRuntime
from aloe_sim.exact import exact_chunk_values, exact_values
from aloe_sim.station import Station

EVERY = 4  # chunks between two states that are looked at
_CHUNK_NUMBER = 1_000_000  # of the noise that chunks are sampled with; no chunk of an episode has it


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
    number, exact, realised, left_out = [], [], [], 0
    worth = _worth(scale)
    with _station(episodes[0], contract, observe) as station:
        for i, ep in enumerate(episodes):
            say("exact values", i, len(episodes))
            steps = list(range(0, ep.steps, EVERY * contract.chunk.execute))
            try:
                exact.append(exact_values(station, ep, steps, policy, worth, tries=tries, observe=observe))
            except AloeError:  # contacts felt the rounding of recorded actions: counted, not judged
                left_out += 1
                continue
            realised.append(realised_returns(ep, **_units(scale))[steps])
            number.append(np.full(len(steps), i))
    if not number:
        raise AloeError(f"None of {len(episodes)} episodes ends again as it was recorded: no exact values.")
    columns = np.concatenate(number), np.concatenate(exact), np.concatenate(realised)
    return {
        "spearman": asdict(estimate(spearman, *columns)),
        "pearson": asdict(estimate(pearson, *columns)),
        "tries": tries,
        "left_out": left_out,
    }


def among_chunks(
    episodes: Sequence[EpisodeData],
    policy: FlowRuntime,
    judges: Mapping[str, FlowRuntime],
    contract: RobotContract,
    scale: RewardScale,
    *,
    chunks: int,
    tries: int,
    observe: Literal["images", "objects"] = "images",
    say: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Return how much `chunks` samples of the policy at one state differ in worth, and what critics know of that.

    sd_states, sd_chunks: of what states are worth, and chunks within a state, less the chance of `tries` continuations;
    per judge the correlation of Q_pess with worth within states, and gain: worth of the chunk it likes best less the
    mean. A chance, not a skill, shows as a gain as large as `noise`, the standard error of one chunk's worth.
    """
    values: list[np.ndarray] = []
    liked: dict[str, list[np.ndarray]] = {name: [] for name in judges}

    def sample(obs: Observation) -> np.ndarray:
        return policy.sample(replace(obs, chunk_number=_CHUNK_NUMBER), chunks)

    with _station(episodes[0], contract, observe) as station:
        for i, ep in enumerate(episodes):
            say("exact values of chunks", i, len(episodes))
            steps = list(range(0, ep.steps, EVERY * contract.chunk.execute))
            try:
                worths, openings = exact_chunk_values(
                    station, ep, steps, policy, sample, _worth(scale), chunks=chunks, tries=tries, observe=observe
                )
            except AloeError:  # as above
                continue
            values.append(worths)
            for name, judge in judges.items():
                liked[name] += [judge.judge(o.observation, o.chunks) for o in openings if o.observation is not None]
    if not values:
        raise AloeError(f"None of {len(episodes)} episodes ends again as it was recorded: no exact values.")
    worth = np.concatenate(values)
    return spread(worth) | {"judges": {name: skill(worth.mean(2), np.stack(q)) for name, q in liked.items()}}


def spread(worth: np.ndarray) -> dict[str, Any]:
    """Return how worth [S, n, tries] varies: across states, among the chunks of a state, and by chance."""
    chance = float(worth.var(2, ddof=1).mean()) / worth.shape[2]
    chunks = float(worth.mean(2).var(1, ddof=1).mean())
    return {
        "states": len(worth),
        "sd_states": float(worth.mean((1, 2)).std()),
        "sd_chunks": max(0.0, chunks - chance) ** 0.5,
        "noise": chance**0.5,
    }


def skill(worth: np.ndarray, q: np.ndarray) -> dict[str, float | None]:
    """Return what values q [S, n] know of worth [S, n] within states; None where nothing varies."""
    true, thought = (x - x.mean(1, keepdims=True) for x in (worth, q))
    varies = true.std() > 0 and thought.std() > 0
    picked = true[np.arange(len(q)), q.argmax(1)].mean()
    return {
        "correlation": float(np.corrcoef(true.ravel(), thought.ravel())[0, 1]) if varies else None,
        "gain": float(picked),
        "sd": float(thought.std()),
    }


def _units(scale: RewardScale) -> dict[str, float]:
    return {"gamma": scale.gamma, "max_length": scale.max_length, "failure_cost": scale.failure_cost}


def _worth(scale: RewardScale) -> Callable[[EpisodeData], float]:
    return lambda went_on: float(realised_returns(went_on, **_units(scale))[0])


@contextmanager
def _station(first: EpisodeData, contract: RobotContract, observe: str) -> Iterator[Station]:
    info = {key: str(first.info[key]) for key in ("level", "variant", "randomisation")}
    station = Station(
        contract,
        first.task,
        info["level"],
        info["variant"],
        randomisation=info["randomisation"],
        render=observe == "images",
    )
    try:
        yield station
    finally:
        station.close()

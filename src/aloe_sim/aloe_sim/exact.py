"""What states were really worth: the policy goes on from each again and again, in the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from aloe_core.episode.data import EpisodeData, Outcome, Source
from aloe_core.errors import AloeError
from aloe_core.types import PolicyRuntime
from aloe_sim.rollout import run_episode
from aloe_sim.station import Station

Worth = Callable[[EpisodeData], float]  # of an episode, from its first step on
_NOISE = 7_000_000  # first seed of the noise that policies go on with; no episode has it
_SAME = 1e-3  # rad or m


def exact_values(
    station: Station,
    ep: EpisodeData,
    steps: Sequence[int],
    policy: PolicyRuntime,
    worth: Worth,
    *,
    tries: int = 8,
    observe: Literal["images", "objects"] = "images",
) -> np.ndarray:
    """Return the mean worth of `tries` continuations of `policy` from each of `steps`, float64 [len(steps)].

    `ep` is an autonomous episode of this station, undisturbed; it is run again from its seed to find its states.
    AloeError if that leads elsewhere.
    """
    if (ep.source == Source.HUMAN).any():
        raise AloeError(f"Episode {ep.episode_id}: a person drove in it; values of a policy need its own episodes.")
    snapshots = _snapshots(station, ep, steps)
    values = np.empty(len(steps))
    for i, snapshot in enumerate(snapshots):
        noise = range(_NOISE + i * tries, _NOISE + (i + 1) * tries)
        ways = (run_episode(station, seed, policy, record=False, observe=observe, start=snapshot) for seed in noise)
        values[i] = np.mean([worth(way) for way in ways])
    return values


def _snapshots(station: Station, ep: EpisodeData, steps: Sequence[int]) -> list[np.ndarray]:
    station.reset(ep.seed)
    found = {}
    for step in range(ep.steps + 1):
        if step in steps:
            found[step] = station.snapshot()
        if np.abs(station.joint_positions() - ep.state[step]).max() > _SAME:
            raise AloeError(
                f"Episode {ep.episode_id}: run again from seed {ep.seed} it is elsewhere at step {step}; it was "
                "recorded at another task, level or variant, or disturbed."
            )
        if step < ep.steps:
            station.step(ep.executed[step].astype(np.float64))
    if station.success != (ep.outcome == Outcome.SUCCESS):  # recorded actions are rounded, and contacts may feel it
        raise AloeError(f"Episode {ep.episode_id}: run again from seed {ep.seed} it ends otherwise.")
    return [found[step] for step in steps]

"""What states were really worth: the policy goes on from each again and again, in the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from aloe_core.episode.data import EpisodeData, Outcome, Source
from aloe_core.errors import AloeError
from aloe_core.types import Inference, Observation, PolicyRuntime
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
    values = np.empty(len(steps))
    for i, snapshot in enumerate(_snapshots(station, ep, steps)):
        noise = range(_NOISE + i * tries, _NOISE + (i + 1) * tries)
        ways = (run_episode(station, seed, policy, record=False, observe=observe, start=snapshot) for seed in noise)
        values[i] = np.mean([worth(way) for way in ways])
    return values


class Opening:
    """PolicyRuntime that begins with one of several chunks sampled where it is first asked, and then is the policy.

    `sample(observation)` gives the chunks, [n, H, A]; it is called once, `observation` and `chunks` are kept.
    """

    def __init__(self, policy: PolicyRuntime, sample: Callable[[Observation], np.ndarray]) -> None:
        self.version = policy.version
        self.observation: Observation | None = None
        self.chunks = np.empty(0)
        self._policy, self._sample = policy, sample
        self._begin: int | None = None

    def begin(self, which: int) -> Opening:
        """Open the next episode with chunk `which`."""
        self._begin = which
        return self

    def infer(self, obs: Observation) -> Inference:
        inference = self._policy.infer(obs)
        if self._begin is None:
            return inference
        if self.observation is None:
            self.observation, self.chunks = obs, self._sample(obs)
        which, self._begin = self._begin, None
        return replace(inference, chunk=replace(inference.chunk, actions=self.chunks[which]))


def exact_chunk_values(
    station: Station,
    ep: EpisodeData,
    steps: Sequence[int],
    policy: PolicyRuntime,
    sample: Callable[[Observation], np.ndarray],
    worth: Worth,
    *,
    chunks: int,
    tries: int,
    observe: Literal["images", "objects"] = "images",
) -> tuple[np.ndarray, list[Opening]]:
    """Return what `tries` continuations after each of `chunks` sampled chunks were worth, float64 [S, chunks, tries].

    And per state what was seen and sampled there. `sample` as of Opening; the rest as of exact_values.
    """
    values = np.empty((len(steps), chunks, tries))
    openings = []
    for i, snapshot in enumerate(_snapshots(station, ep, steps)):
        openings.append(Opening(policy, sample))
        for n, t in np.ndindex(chunks, tries):
            opening = openings[-1].begin(n)
            noise = _NOISE + (i * chunks + n) * tries + t
            went_on = run_episode(station, noise, opening, record=False, observe=observe, start=snapshot)
            values[i, n, t] = worth(went_on)
    return values, openings


def _snapshots(station: Station, ep: EpisodeData, steps: Sequence[int]) -> list[np.ndarray]:
    if (ep.source == Source.HUMAN).any():
        raise AloeError(f"Episode {ep.episode_id}: a person drove in it; values of a policy need its own episodes.")
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

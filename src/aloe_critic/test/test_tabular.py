"""Chunked TD on off-policy data is exact evaluation of the current policy; Monte Carlo on the same data is not."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from aloe_core.episode.data import EpisodeData, Outcome, Source
from aloe_core.episode.transitions import chunk_transitions
from aloe_critic.td import td_target

STATES, H, GAMMA, CAP = 5, 2, 0.9, 12  # a corridor; state 4 is the goal; chunks of two moves
CHUNKS = list(itertools.product((-1, 1), repeat=H))
POLICY = np.array([{(1, 1): 0.7, (1, -1): 0.2, (-1, 1): 0.1}.get(c, 0.0) for c in CHUNKS])
SCORES = {"max_length": CAP, "failure_cost": CAP, "gamma": GAMMA}


def move(state: int, action: int) -> int:
    return int(np.clip(state + action, 0, STATES - 1))


def episode(seed: int) -> EpisodeData:
    """A random walk from a random start until the goal or the time limit; nothing like POLICY."""
    rng = np.random.default_rng(seed)
    path, actions = [int(rng.integers(STATES - 1))], []
    while path[-1] != STATES - 1 and len(actions) < CAP:
        actions.append(int(rng.choice((-1, 1))))
        path.append(move(path[-1], actions[-1]))
    t = len(actions)
    done = path[-1] == STATES - 1
    return EpisodeData(
        episode_id=str(seed),
        task="walk",
        instruction="",
        seed=seed,
        outcome=Outcome.SUCCESS if done else Outcome.FAILURE,
        end="terminated" if done else "truncated",
        contract_hash="",
        dt=1.0,
        stamps=np.arange(t + 1) * 10**9,
        state=np.array(path, np.float32)[:, None],
        requested=np.array(actions, np.float32)[:, None],
        executed=np.array(actions, np.float32)[:, None],
        source=np.full(t, int(Source.POLICY), np.uint8),
        chunk=np.zeros(t, np.int32),
        chunk_index=np.zeros(t, np.int32),
        frames={},
    )


def exact_q() -> np.ndarray:
    """Q of POLICY by iterating its Bellman equation over the known corridor."""
    q = np.zeros((STATES, len(CHUNKS)))
    for _ in range(300):
        v = q @ POLICY
        for s, (c, chunk) in itertools.product(range(STATES - 1), enumerate(CHUNKS)):
            here, total, gone = s, 0.0, False
            for k, a in enumerate(chunk):
                here = move(here, a)
                gone = here == STATES - 1
                total += 0.0 if gone else -(GAMMA**k) / CAP
                if gone:
                    break
            q[s, c] = total + (0.0 if gone else GAMMA**H * v[here])
    return q


def table_of(episodes):
    """(state, chunk, reward, discount, next state) of every full or terminating window."""
    rows = []
    for ep in episodes:
        tr = chunk_transitions(ep, H, stride=1, **SCORES)
        for i in range(len(tr)):
            ran = tuple(int(a) for a in ep.executed[tr.start[i] : tr.next[i], 0])
            for c, chunk in enumerate(CHUNKS):
                # A chunk cut by the goal stands for every chunk that begins so; one cut by time is no full chunk.
                if chunk[: len(ran)] == ran and (len(ran) == H or tr.terminated[i]):
                    rows.append((ep.state[tr.start[i], 0], c, tr.reward[i], tr.discount[i], ep.state[tr.next[i], 0]))
    s, c, r, d, n = map(np.array, zip(*rows, strict=True))
    return s.astype(int), c, torch.tensor(r), torch.tensor(d), n.astype(int)


def fit(cell: np.ndarray, y: np.ndarray) -> np.ndarray:
    total = np.bincount(cell, weights=y, minlength=STATES * len(CHUNKS))
    count = np.bincount(cell, minlength=STATES * len(CHUNKS))
    return (total / np.maximum(count, 1)).reshape(STATES, len(CHUNKS))


def test_td_matches_exact_evaluation_within_one_percent_and_monte_carlo_does_not():
    episodes = [episode(seed) for seed in range(400)]
    s, c, reward, discount, after = table_of(episodes)
    cell = s * len(CHUNKS) + c
    q = np.zeros((STATES, len(CHUNKS)))
    for _ in range(200):
        next_v = torch.tensor(q @ POLICY)[after][None, :, None]
        q = fit(cell, td_target(reward, discount, next_v)[0].numpy())
    exact = exact_q()[: STATES - 1]
    assert np.abs(q[:-1] - exact).max() <= 0.01 * np.abs(exact).max()

    returns = []
    for ep in episodes:
        tr = chunk_transitions(ep, CAP, stride=1, **SCORES)
        at = dict(zip(tr.start.tolist(), tr.reward.tolist(), strict=True))
        windows = chunk_transitions(ep, H, stride=1, **SCORES)
        for i in range(len(windows)):
            ran = tuple(int(a) for a in ep.executed[windows.start[i] : windows.next[i], 0])
            returns += [
                at[windows.start[i]]
                for chunk in CHUNKS
                if chunk[: len(ran)] == ran and (len(ran) == H or windows.terminated[i])
            ]
    monte_carlo = fit(cell, np.array(returns))
    assert np.abs(monte_carlo[:-1] - exact).max() > 0.05 * np.abs(exact).max()

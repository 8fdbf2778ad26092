"""Q, V and A of the chunks of recorded episodes, by the critic and the policy of a checkpoint."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.episode.bag import read_bag
from aloe_core.episode.data import EpisodeData, Source
from aloe_core.episode.decode import Decoder
from aloe_core.episode.reader import EXECUTED_TYPE, IMAGE_TYPE, JOINT_STATE_TYPE, episode_from_bag, find_namespace
from aloe_core.episode.transitions import chunk_transitions
from aloe_core.errors import AloeError
from aloe_critic.replay.frames import decode_episode
from aloe_critic.replay.view import check_episode
from aloe_policy.model import FlowPolicy, ObsBatch
from aloe_policy.runtime import Models
from aloe_policy.text import tokenize

CHUNK_TYPE = "aloe_msgs/msg/ActionChunk"
BATCH = 128  # observations at once


@dataclass(frozen=True)
class Takeover:
    """A person takes the robot from the policy: what the critic says of both chunks in that state."""

    step: int
    q_human: float  # Q_pess of what the person did
    q_policy: float  # Q_pess of the rest of the chunk that was replaced, or of fresh chunks (their mean)
    v: float  # mean Q_pess of fresh chunks of the checkpoint's policy
    recorded: bool  # the replaced chunk was in the bag


@dataclass(frozen=True)
class EpisodeScores:
    """N chunks of an episode: real chunks of a policy, and pieces of `execute` steps of other sources."""

    episode: EpisodeData  # without its frames
    start: np.ndarray  # int64 [N], step
    length: np.ndarray  # int64 [N], steps that ran and are scored
    source: np.ndarray  # uint8 [N], Source
    q_pess: np.ndarray  # float64 [N], likewise below
    q_mean: np.ndarray  # over heads
    q_std: np.ndarray
    v: np.ndarray  # mean Q_pess of fresh chunks
    takeovers: tuple[Takeover, ...] = ()

    @property
    def advantage(self) -> np.ndarray:
        """Q_pess - V, float64 [N]."""
        return self.q_pess - self.v

    @property
    def driven(self) -> np.ndarray:
        """Chunks of a policy or a person, bool [N]; nobody chose what runs in a hold."""
        driven: np.ndarray = np.isin(self.source, (int(Source.POLICY), int(Source.HUMAN)))
        return driven

    @property
    def autonomous(self) -> bool:
        """No step was a person's."""
        return not bool((self.episode.source == Source.HUMAN).any())


@dataclass(frozen=True)
class RewardScale:
    """Units of a critic's values: discount per control step; longest episode and C_fail in control steps."""

    gamma: float
    max_length: float
    failure_cost: float


def reward_scale(models: Models) -> RewardScale:
    """Return the units a checkpoint's critic was fitted in; AloeError if it has no critic or does not say."""
    if models.critic is None:
        raise AloeError(f"{models.version}: this checkpoint has no critic, so that it cannot score; name one of aloe.")
    scale, hyper = models.config.get("reward_scale"), models.config.get("hyper")
    try:
        gamma = float(hyper["gamma"])  # type: ignore[index]
        return RewardScale(gamma, float(scale[0]), float(scale[1]))  # type: ignore[index]
    except (TypeError, KeyError, IndexError, ValueError):
        raise AloeError(
            f"{models.version}: its configuration lacks reward_scale or hyper.gamma (reward_scale = {scale!r}), the "
            "units of its values."
        ) from None


class Scorer:
    """Scores episodes. Fresh chunks depend on the episode's id only, so that a score can be repeated."""

    def __init__(self, models: Models, contract: RobotContract, samples: int = 8, device: str = "cpu") -> None:
        """`samples` fresh chunks make V; AloeError if the checkpoint has no critic."""
        if samples < 1:
            raise AloeError(f"samples = {samples}: expected at least 1.")
        self.scale = reward_scale(models)
        assert models.critic is not None
        self.version, self.contract, self.samples = models.version, contract, samples
        self.device = torch.device(device)
        self.policy = models.policy.to(self.device).eval()
        self.critic = models.critic.to(self.device).eval()
        self._lower = torch.tensor(contract.lower, dtype=torch.float32, device=self.device)
        self._upper = torch.tensor(contract.upper, dtype=torch.float32, device=self.device)

    def score_bag(self, directory: Path) -> EpisodeScores:
        """Read and score a bag; AloeError as `read_episode`."""
        return self.score(*read_with_chunks(directory, self.contract))

    @torch.inference_mode()
    def score(self, ep: EpisodeData, chunks: dict[str, np.ndarray] | None = None) -> EpisodeScores:
        """Score one episode; `chunks` holds what policies sent, by chunk id, float32 [H, A]."""
        check_episode(ep, self.contract)
        assert self.critic is not None
        scored = self.critic.config.steps
        found = chunk_transitions(ep, self.contract.chunk.execute, max_length=1, failure_cost=1)
        if not len(found):
            raise AloeError(f"Episode {ep.episode_id}: no chunk to score; every step lacks its successor.")
        length = np.minimum(scored, found.length) if scored <= found.horizon else _reach(ep, found.start, scored)
        rows = found.start[:, None] + np.minimum(np.arange(scored), length[:, None] - 1)
        z, state = observe(self.policy, ep, found.start, self.contract, self.device)
        q = self._q(z, state, torch.from_numpy(ep.executed[rows])[:, None], length)[..., 0]
        fresh = self.critic.pessimistic(self._q(z, state, self.fresh(z, state, ep.episode_id), scored))
        q_pess = self.critic.pessimistic(q)
        v = fresh.mean(1)
        return EpisodeScores(
            episode=replace(ep, frames={}),
            start=found.start,
            length=length,
            source=found.source,
            q_pess=_numpy(q_pess),
            q_mean=_numpy(q.mean(0)),
            q_std=_numpy(q.std(0, correction=0)),
            v=_numpy(v),
            takeovers=self._takeovers(ep, found.start, z, state, _numpy(q_pess), _numpy(v), chunks or {}),
        )

    def fresh(self, z: Tensor, state: Tensor, key: str) -> Tensor:
        """Chunks of the checkpoint's policy as it would send them, [n, samples, H, A]; `key` names the noise."""
        return draw(self.policy, z, state, self.samples, key).clamp(self._lower, self._upper)

    def q_pess(self, z: Tensor, state: Tensor, chunks: Tensor) -> Tensor:
        """Q_pess of chunks [n, m, H, A] that run as far as the critic scores, [n, m]."""
        return self.critic.pessimistic(self._q(z, state, chunks, self.critic.config.steps))

    def _q(self, z: Tensor, state: Tensor, chunks: Tensor, length: np.ndarray | int) -> Tensor:
        """Q [K, n, m] of chunks [n, m, >= scored, A] with executed length [n]."""
        ran = torch.as_tensor(np.broadcast_to(length, (len(z),)).copy(), device=self.device)
        return self.critic(z, self.critic.encode(chunks.to(self.device), state * self.policy.relative, ran))

    def _takeovers(
        self,
        ep: EpisodeData,
        start: np.ndarray,
        z: Tensor,
        state: Tensor,
        q_pess: np.ndarray,
        v: np.ndarray,
        chunks: dict[str, np.ndarray],
    ) -> tuple[Takeover, ...]:
        found = []
        driver = np.where(np.isin(ep.source, (Source.POLICY, Source.HUMAN)), ep.source, 0)
        last = -1  # the newest step of a policy that nobody took over yet
        for step in range(ep.steps):
            if driver[step] == Source.POLICY:
                last = step
            elif driver[step] == Source.HUMAN and last >= 0:
                at = int(np.searchsorted(start, step))
                if at < len(start) and start[at] == step:
                    rest = _rest(ep, last, step, chunks)
                    q = float(v[at])
                    if rest is not None:
                        ran = min(len(rest), self.critic.config.steps)
                        rows = rest[np.minimum(np.arange(self.critic.config.steps), ran - 1)]
                        values = self._q(z[at, None], state[at, None], torch.from_numpy(rows)[None, None], ran)
                        q = float(self.critic.pessimistic(values))
                    found.append(Takeover(step, float(q_pess[at]), q, float(v[at]), rest is not None))
                last = -1
        return tuple(found)


def read_with_chunks(directory: Path, contract: RobotContract) -> tuple[EpisodeData, dict[str, np.ndarray]]:
    """Return a bag's episode and what policies sent, by chunk id, float32 [H, A]; AloeError as `read_episode`."""
    bag = read_bag(directory, (EXECUTED_TYPE, JOINT_STATE_TYPE, IMAGE_TYPE, CHUNK_TYPE))
    episode = episode_from_bag(bag, contract)
    episode.info["namespace"] = find_namespace(bag)
    decode = Decoder(bag.file, bag.schemas.values())
    chunks = {}
    for topic in bag.topics_of(CHUNK_TYPE):
        for message in bag.messages.get(topic, ()):
            sent = decode(message.data, CHUNK_TYPE)
            order = contract.order(list(sent.joint_names), f"{bag.file}: {topic}")
            rows = np.asarray(sent.actions, np.float32).reshape(-1, len(sent.joint_names))
            chunks[str(sent.chunk_id)] = rows[:, order]
    return episode, chunks


def observe(
    policy: FlowPolicy, ep: EpisodeData, steps: np.ndarray, contract: RobotContract, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a policy sees at these steps: features [n, Z] and state [n, J]."""
    words = torch.tensor(tokenize(ep.instruction, policy.config.text_buckets), device=device)
    state = torch.from_numpy(ep.state[steps]).to(device)
    if policy.config.objects:
        if ep.objects is None:
            raise AloeError(f"Episode {ep.episode_id}: holds no poses of objects, which this policy sees.")
        seen = torch.from_numpy(ep.objects[steps]).to(device)
        return policy.features(ObsBatch(None, state, words.expand(len(steps), -1), seen)).float(), state
    frames = decode_episode(ep, contract)
    views = []
    for camera in contract.camera_names:
        used, images = frames[camera]
        newest = ep.frames[camera].newest(ep.stamps[steps]).clip(0)
        views.append(images[np.searchsorted(used, newest)])
    parts = []
    for pick in torch.arange(len(steps)).split(BATCH):
        images = torch.from_numpy(np.stack([view[pick.numpy()] for view in views], 1)).permute(0, 1, 4, 2, 3)
        batch = ObsBatch(images.to(device), state[pick], words.expand(len(pick), -1))
        parts.append(policy.features(batch).float())
    return torch.cat(parts), state


def draw(policy: FlowPolicy, z: Tensor, state: Tensor, samples: int, key: str) -> Tensor:
    """Sample chunks [n, samples, H, A], not yet clamped; the same `key` and shape is the same noise."""
    generator = torch.Generator(z.device).manual_seed(zlib.crc32(key.encode()))
    return policy.decode_actions(policy.sample_knots(z, samples, generator), state)


def _rest(ep: EpisodeData, last: int, step: int, chunks: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return the rows that the policy's chunk meant for `step` on, None if it was not recorded or meant none."""
    number = int(ep.chunk[last])
    sent = chunks.get(ep.chunk_ids[number]) if number >= 0 else None
    row = int(ep.chunk_index[last]) + step - last
    return sent[row:] if sent is not None and row < len(sent) else None


def _reach(ep: EpisodeData, start: np.ndarray, most: int) -> np.ndarray:
    """Return how many steps of one source run from each start, up to `most`, int64 [N]."""
    ends = np.append(np.flatnonzero(np.diff(ep.source)) + 1, ep.steps)
    return np.minimum(most, ends[np.searchsorted(ends, start, side="right")] - start)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()

"""The policy behind a server that trains, as the trainer's Actor: asked, sampled and improved over the connection."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.types import Observation
from aloe_critic.imitate import Examples, warm_cosine
from aloe_critic.job import Job, Learned
from aloe_critic.loop import Stopped
from aloe_critic.remote.client import Observations, TrainingClient
from aloe_critic.replay import Replay
from aloe_critic.td import ChunkTable
from aloe_policy.critic import ChunkCritic
from aloe_policy.remote.mapping import Mapping
from aloe_policy.remote.translate import Translator

PHASE = "actor on server"
_KNOT_STRIDE = 5  # of FlowConfig: the critic looks at every fifth step of a chunk


@dataclass(frozen=True)
class ServedSizes:
    """Chunks in the contract's terms, whatever the server's are."""

    action_dim: int
    horizon: int
    execute: int
    knot_stride: int = _KNOT_STRIDE


class ServedPolicy:
    """What a critic must know of the policy: a Judged."""

    def __init__(self, contract: RobotContract, feature_dim: int) -> None:
        self.config = ServedSizes(contract.action_dim, contract.chunk.horizon, contract.chunk.execute)
        self.feature_dim = feature_dim
        self.relative = torch.tensor([float(joint.unit != "m") for joint in contract.joints])


class ServerActor:
    """Actor of one run. What the server was asked before its policy changed is kept in the run's folder.

    Steps are drawn by their number alone, so that those a killed server had not saved are taken again as they were.
    """

    def __init__(self, job: Job, client: TrainingClient, mapping: Mapping) -> None:
        """Begin the run, or go on with it; AloeError if the server's policy does not fit the contract."""
        self._job, self._client, training = job, client, client.offer.training
        self._translator = Translator(mapping, job.contract, client.offer.images)
        self._rows = training.horizon
        self._check(training.action_dim)
        self.policy = ServedPolicy(job.contract, training.feature_dim)
        self._improved = False
        self._features = torch.empty(0)  # until they are asked for
        number = self._kept("run", lambda: torch.tensor(secrets.randbits(62)))
        self._run = f"{number.item():016x}"
        self._steps, self._version = client.begin(self._run, job.hyper.seed)

    def features(self) -> Tensor:
        """[rows, Z]: of a trunk that no step changes, so they are asked for once."""
        ask = lambda _rows, obs: self._client.features(obs)  # noqa: E731
        self._features = self._kept("features", lambda: self._ask_all("features", ask))
        return self._features.to(self._job.device)

    def bank(self, critic: ChunkCritic, table: ChunkTable, n: int) -> Tensor:
        """Tokens [rows, n, D] of n chunks at every row."""
        state, seed, device = table.state, self._job.hyper.seed, self._job.device

        def tokens(rows: Tensor, obs: Observations) -> np.ndarray:
            given = self._client.sample(obs, n, seed + int(rows[0]))
            who = f"Policy server {self._client.url}"
            near = [s.numpy() for s in state[rows]]
            chunks = np.stack(
                [[self._translator.positions(c, s, who) for c in g] for g, s in zip(given, near, strict=True)]
            )
            length = torch.full((len(rows),), critic.config.steps, device=device)
            anchor = (state[rows] * self.policy.relative).to(device)
            return critic.encode(torch.from_numpy(chunks).to(device), anchor, length).cpu().numpy()

        name = "bank_new" if self._improved else "bank"
        return self._kept(name, lambda: self._ask_all("chunks of the policy", tokens)).to(device)

    def improve(self, examples: Examples) -> tuple[Tensor, float]:
        """Take the steps that the server does not have behind it yet; the features stay what they were, or empty."""
        job, hyper = self._job, self._job.hyper
        steps, rate = hyper.server_steps, warm_cosine(hyper.server_lr, hyper.server_steps)
        recent: list[float] = []
        for step in range(self._steps, steps):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(hyper.seed + step)
                pick, _ = examples.draw(hyper.server_batch)
            obs, chunks, length = self._batch(examples, pick)
            weight = np.ones(len(pick), np.float32)  # they are drawn in proportion to their weights
            loss, norm = self._client.step(self._run, step, obs, chunks, length, weight, rate(step), hyper.clip)
            self._steps = step + 1
            if self._steps > 0.9 * steps:
                recent.append(loss)
            self._report(step, steps, loss, norm)
            if job.loop.stopping and self._steps < steps:
                raise Stopped(f"Training stopped at step {self._steps} of {steps} of {PHASE}, which the server keeps.")
        self._improved = True
        return self._features.to(job.device), _mean(recent)

    def save(self, learned: Learned, method: str, critic_config: dict[str, Any]) -> tuple[str, str]:
        """Have the policy saved with the critic beside it; return the version and its folder on the server."""
        weights = save({n: t.contiguous() for n, t in learned.critic.state_dict().items()}) if learned.critic else None
        contract = self._job.contract.hash
        return self._client.save(self._run, method, contract, learned.metrics, weights, critic_config)

    def _check(self, columns: int) -> None:
        offer, contract = self._client.offer, self._job.contract
        what = f"Policy server {self._client.url}"
        if offer.contract_hash and offer.contract_hash != contract.hash:
            raise AloeError(f"{what}: its policy is for a contract {offer.contract_hash}: expected {contract.hash}.")
        if self._rows < contract.chunk.horizon:
            raise AloeError(
                f"{what}: its chunks have {self._rows} rows: expected at least {contract.chunk.horizon}, the horizon "
                f"of contract {contract.name}; set chunk.horizon to what the policy gives."
            )
        rest = np.zeros((1, contract.action_dim))
        mapped = self._translator.numbers(rest, rest[0]).shape[1]
        if mapped != columns:
            raise AloeError(f"{what}: its actions have {columns} numbers: expected {mapped}, as the mapping says.")

    def _batch(self, examples: Examples, pick: Tensor) -> tuple[Observations, np.ndarray, np.ndarray]:
        """Observations, chunks [B, H, A] in the server's words, rows past the last valid one repeated, and lengths."""
        windows = examples.windows
        rows = windows.obs[pick]
        states = self._job.replay.state()[rows].numpy()
        chunks = [self._translator.numbers(c, s) for c, s in zip(windows.chunk[pick].numpy(), states, strict=True)]
        padded = [np.pad(c, ((0, self._rows - len(c)), (0, 0)), mode="edge") for c in chunks]
        return self._observations(rows), np.stack(padded), windows.plan_length[pick].numpy()

    def _observations(self, rows: Tensor) -> Observations:
        return stacked(observations(self._job.replay, self._job.contract, rows), self._translator)

    def _ask_all(self, what: str, ask: Callable[[Tensor, Observations], np.ndarray]) -> Tensor:
        """Ask something of every observation row, some at once, and put the answers [B, ...] together."""
        count, parts = self._job.replay.rows, []
        for rows in torch.arange(count).split(self._job.hyper.server_batch):
            parts.append(torch.from_numpy(ask(rows, self._observations(rows))))
            self._job.progress(what, int(rows[-1]) + 1, count, 0.0)
            if self._job.loop.stopping:
                raise Stopped(f"Training stopped while the server was asked for {what}; this begins again.")
        return torch.cat(parts)

    def _kept(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Return what an earlier process of the run kept under this name, else make and keep it."""
        if self._job.loop.folder is None:
            return make()
        path = self._job.loop.folder / f"00-{name}.safetensors"
        if path.exists():
            return load_file(path)["value"]
        value, part = make(), path.with_suffix(".partial")
        save_file({"value": value.contiguous()}, part)
        part.replace(path)
        return value

    def _report(self, step: int, steps: int, loss: float, norm: float) -> None:
        if step % 10 == 9 or step == steps - 1:
            self._job.progress(PHASE, step + 1, steps, loss)
            if self._job.loop.monitor is not None:
                self._job.loop.monitor.scalar(f"loss/{PHASE}", loss, step)
                self._job.loop.monitor.scalar(f"gradient/{PHASE}", norm, step)


def observations(replay: Replay, contract: RobotContract, rows: Tensor) -> Iterator[Observation]:
    """Yield the observations of these rows."""
    images = replay.pixels(rows).permute(0, 1, 3, 4, 2).contiguous().numpy()
    states = replay.state()[rows].numpy()
    for pictures, state, text in zip(images, states, replay.instructions(rows), strict=True):
        yield Observation(0, dict(zip(contract.camera_names, pictures, strict=True)), state, text)


def stacked(each: Iterator[Observation], translator: Translator) -> Observations:
    """Put observations into the server's words, arrays [B, ...] and B prompts; AloeError for keys within keys."""
    requests = [translator.observation(one) for one in each]
    if any(isinstance(value, dict) for value in requests[0].values()):
        raise AloeError("Mapping: a key within a key: a server that trains takes observation/<camera> and the like.")
    batch: Observations = {key: [request[key] for request in requests] for key in requests[0]}
    arrays = {key: np.stack(values) for key, values in batch.items() if isinstance(values[0], np.ndarray)}
    return {**arrays, "prompt": batch.get("prompt", [""] * len(requests))}


def _mean(losses: list[float]) -> float:
    return sum(losses) / len(losses) if losses else float("nan")

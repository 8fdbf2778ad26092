"""A checkpoint, loaded and ready to drive: sample several chunks, send the one the critic trusts most."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from aloe_core.checkpoint import verify_checkpoint
from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.types import Chunk, Inference, Observation, Value
from aloe_policy.chunking import Chunking
from aloe_policy.config import FlowConfig
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.interface import Prefix
from aloe_policy.model import FlowPolicy, ObsBatch
from aloe_policy.native import NativePolicy
from aloe_policy.text import tokenize

POLICY_FILE = "model.safetensors"
CRITIC_FILE = "critic.safetensors"
CRITIC_CONFIG = "critic.json"  # of a critic beside a policy whose config.json is not ours


@dataclass(frozen=True)
class Models:
    """The networks of a checkpoint."""

    policy: FlowPolicy
    critic: ChunkCritic | None
    config: dict[str, object]
    version: str
    directory: Path


def load_models(directory: str | Path, contract: RobotContract, *, expect_sha256: str | None = None) -> Models:
    """Verify a checkpoint and build its networks; every tensor must be there, fit and be finite, else AloeError."""
    directory = Path(directory)
    manifest = verify_checkpoint(directory, contract_hash=contract.hash, expect_sha256=expect_sha256)
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text())
        policy = FlowPolicy(FlowConfig.model_validate(config["policy"]))
        critic = ChunkCritic(CriticConfig.model_validate(config["critic"])) if config.get("critic") else None
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise AloeError(
            f"{path}: not the configuration of a native policy ({' '.join(str(error).split())})."
        ) from error
    _check_shape(policy.config, contract, path)
    load_weights(policy, directory / POLICY_FILE)
    if critic is not None:
        load_weights(critic, directory / CRITIC_FILE)
    return Models(policy, critic, config, manifest.version, directory)


def load_runtime(
    directory: str | Path,
    contract: RobotContract,
    candidates: int = 8,
    device: str = "cpu",
    *,
    expect_sha256: str | None = None,
    chunking: Chunking | None = None,
) -> FlowRuntime:
    """Verify and load a checkpoint for driving; at most `candidates` chunks are sampled, spliced as `chunking` says.

    A checkpoint without a critic samples one, and one whose method samples fewer (`aloe`: one) stays with that.
    """
    models = load_models(directory, contract, expect_sha256=expect_sha256)
    wanted = models.config.get("candidates", candidates)
    if not isinstance(wanted, int) or wanted < 1:
        raise AloeError(f"{Path(directory) / 'config.json'}: candidates = {wanted!r}: expected a whole number from 1.")
    return FlowRuntime(models, contract, min(candidates, wanted), device, chunking)


class FlowRuntime:
    """PolicyRuntime of the native policy. Sampling depends on (seed, chunk number) only, so a run can be repeated."""

    def __init__(
        self,
        models: Models,
        contract: RobotContract,
        candidates: int = 8,
        device: str = "cpu",
        chunking: Chunking | None = None,
    ) -> None:
        if candidates < 1:
            raise AloeError(f"candidates = {candidates}: expected at least 1.")
        self.version = models.version
        self.contract = contract
        self.candidates = candidates if models.critic is not None else 1
        self.device = torch.device(device)
        self.policy = models.policy.to(self.device).eval()
        self.native = NativePolicy(self.policy, chunking)
        if self.native.chunking.mode == "rtc" and not self.native.spec.guided:
            raise AloeError(
                f"Policy {self.version}: chunking = 'rtc' guides a flow, which this one has not: "
                "expected receding or ensemble."
            )
        if self.native.chunking.mode == "prefix" and not self.native.spec.prefix:
            raise AloeError(
                f"Policy {self.version}: chunking = 'prefix' needs a policy trained for it (train --method bc "
                "--set prefix=true): expected receding, ensemble or rtc."
            )
        self.critic = models.critic.to(self.device).eval() if models.critic is not None else None
        self._lower = torch.tensor(contract.lower, dtype=torch.float32, device=self.device)
        self._upper = torch.tensor(contract.upper, dtype=torch.float32, device=self.device)

    @torch.inference_mode()
    def infer(self, obs: Observation, candidates: int | None = None) -> Inference:
        """Return the chunk to run; AloeError if the observation does not fit the contract.

        `candidates` asks for fewer samples than the runtime was made for.
        """
        start = time.perf_counter()
        batch = self._batch(obs)
        z = self.policy.features(batch)
        prefix = self._prefix(obs)
        count = min(self.candidates, candidates or self.candidates)
        chunks = self._sample(obs, batch, z, count, prefix)
        best, value = self._choose(z, batch, chunks)
        actions = chunks[0, best].cpu().numpy()
        if not np.isfinite(actions).all():
            raise AloeError(f"Policy {self.version}: the chunk is not finite; roll back to an earlier checkpoint.")
        chunk = Chunk(
            chunk_id=f"{self.version}/{obs.seed}/{obs.chunk_number}/{obs.stamp}",
            stamp=obs.stamp,
            dt=self.contract.dt,
            actions=actions,
            execute=self.policy.config.execute,
            policy_version=self.version,
            frozen_steps=prefix.frozen if prefix is not None else 0,
        )
        return Inference(chunk, value, count, time.perf_counter() - start)

    @torch.inference_mode()
    def sample(self, obs: Observation, n: int) -> np.ndarray:
        """Return n chunks for one observation, joint positions float32 [n, H, A]; nothing is chosen among them."""
        batch = self._batch(obs)
        return self._sample(obs, batch, self.policy.features(batch), n, self._prefix(obs))[0].cpu().numpy()

    @torch.inference_mode()
    def judge(self, obs: Observation, chunks: np.ndarray) -> np.ndarray:
        """Return Q_pess of chunks [n, H, A] at an observation, float32 [n]; AloeError without a critic."""
        if self.critic is None:
            raise AloeError(f"Policy {self.version} has no critic that could judge chunks.")
        batch = self._batch(obs)
        given = torch.from_numpy(np.asarray(chunks, np.float32))[None].to(self.device)
        return self.critic.pessimistic(self._q(self.policy.features(batch), batch, given)).cpu().numpy()

    def _q(self, z: torch.Tensor, batch: ObsBatch, chunks: torch.Tensor) -> torch.Tensor:
        """Q of chunks [1, n, H, A] by every head, [K, n]."""
        assert self.critic is not None
        length = torch.full((1,), self.critic.config.steps, device=self.device)
        tokens = self.critic.encode(chunks, batch.state * self.policy.relative, length)
        return self.critic(z, tokens)[:, 0]

    def _sample(
        self, obs: Observation, batch: ObsBatch, z: torch.Tensor, n: int, prefix: Prefix | None
    ) -> torch.Tensor:
        generator = torch.Generator(self.device).manual_seed((obs.seed * 1_000_003 + obs.chunk_number) % 2**63)
        chunks = self.native.sample(batch, n, prefix, z=z, generator=generator)
        return chunks.clamp(self._lower, self._upper)

    def _prefix(self, obs: Observation) -> Prefix | None:
        if obs.plan is None or self.native.chunking.mode == "receding":
            return None
        actions = np.array(obs.plan.actions, np.float32)
        if actions.ndim != 2 or actions.shape[1] != self.contract.action_dim or not np.isfinite(actions).all():
            raise AloeError(
                f"Observation: plan of shape {actions.shape}: expected finite rows of {self.contract.action_dim}."
            )
        return Prefix(torch.from_numpy(actions).to(self.device), min(obs.plan.frozen, len(actions)))

    def _choose(self, z: torch.Tensor, batch: ObsBatch, chunks: torch.Tensor) -> tuple[int, Value | None]:
        if self.critic is None:
            return 0, None
        q = self._q(z, batch, chunks)
        q_pess = self.critic.pessimistic(q)
        best = int(q_pess.argmax())
        value = Value(
            q_min=float(q_pess[best]),  # the minimum over heads, unless the critic was made with another bound
            q_mean=float(q[:, best].mean()),
            q_std=float(q[:, best].std(correction=0)),
            v=float(q_pess.mean()),
            critic_version=self.version,
        )
        return best, value

    def _batch(self, obs: Observation) -> ObsBatch:
        objects = self._objects(obs)
        images = []
        for camera in () if objects is not None else self.contract.cameras:
            image = obs.images.get(camera.name)
            if image is None:
                raise AloeError(f"Observation: no image of camera {camera.name!r}, which the policy needs.")
            if image.shape != (camera.height, camera.width, 3):
                raise AloeError(
                    f"Observation: camera {camera.name!r} has shape {image.shape}: expected "
                    f"{(camera.height, camera.width, 3)}, as in contract {self.contract.name}."
                )
            images.append(torch.from_numpy(image).permute(2, 0, 1))
        if obs.state.shape != (self.contract.action_dim,) or not np.isfinite(obs.state).all():
            raise AloeError(
                f"Observation: joint state of shape {obs.state.shape}: "
                f"expected {self.contract.action_dim} finite numbers."
            )
        words = tokenize(obs.instruction, self.policy.config.text_buckets)
        return ObsBatch(
            images=torch.stack(images)[None].to(self.device) if images else None,
            objects=objects,
            state=torch.from_numpy(np.asarray(obs.state, np.float32))[None].to(self.device),
            text=torch.tensor([words], device=self.device),
        )

    def _objects(self, obs: Observation) -> torch.Tensor | None:
        wanted = self.policy.config.objects
        if not wanted:
            return None
        if obs.objects is None or obs.objects.shape != (wanted,) or not np.isfinite(obs.objects).all():
            raise AloeError(
                f"Policy {self.version} sees {wanted} numbers of a simulated scene in place of images: expected those, "
                "as run_episode(observe='objects') gives them; no camera can."
            )
        return torch.from_numpy(obs.objects)[None].to(self.device)


def _check_shape(config: FlowConfig, contract: RobotContract, path: Path) -> None:
    sizes = {f"{c.width}x{c.height}" for c in contract.cameras}
    if len(sizes) > 1:
        raise AloeError(
            f"{path}: contract {contract.name} has cameras of {', '.join(sorted(sizes))}: expected one size, "
            "for the native policy."
        )
    for key, got, expected in (
        ("cameras", list(config.cameras), [] if config.objects else contract.camera_names),
        ("action_dim", config.action_dim, contract.action_dim),
        ("horizon", config.horizon, contract.chunk.horizon),
        ("execute", config.execute, contract.chunk.execute),
    ):
        if got != expected:
            raise AloeError(f"{path}: policy.{key} = {got!r}: expected {expected!r}, as in contract {contract.name}.")


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Load a file of weights; AloeError unless it has every tensor of the module, fitting and finite, and no other."""
    try:
        tensors = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise AloeError(f"{path}: cannot be read as safetensors ({error}).") from error
    expected = module.state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        what = f"tensor {missing[0]!r} is missing" if missing else f"tensor {extra[0]!r} is not expected"
        raise AloeError(f"{path}: {what}; the checkpoint was written for another model.")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise AloeError(f"{path}: {name} has shape {tuple(tensor.shape)}: expected {tuple(expected[name].shape)}.")
        if not torch.isfinite(tensor).all():
            raise AloeError(f"{path}: {name} holds values that are not finite.")
    module.load_state_dict(tensors)

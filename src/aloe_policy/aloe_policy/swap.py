"""Changing the policy of a running robot: verify, load aside, dry-run, swap, keep the previous one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aloe_core.checkpoint import verify_checkpoint
from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.types import Inference, Observation, PolicyRuntime

Loader = Callable[[Path, str | None], PolicyRuntime]

# What a foreign model may raise while it is built or run; anything else is a defect of ours and must surface.
MODEL_ERRORS = (RuntimeError, ValueError, KeyError, IndexError, TypeError, ArithmeticError, OSError, MemoryError)


@dataclass(frozen=True)
class Loaded:
    """A policy that passed every check."""

    runtime: PolicyRuntime
    directory: Path
    latency: float  # s, of the dry run

    @property
    def version(self) -> str:
        return self.runtime.version


class CheckpointSwapper:
    """Holds the policy in use; it changes only to one that passed every check, and only as a whole.

    `load_runtime(directory, manifest_sha256)` builds a runtime. All methods may be called from any thread; those
    that load take seconds. Every refusal is an AloeError, after which the policy in use is what it was.
    """

    def __init__(self, contract: RobotContract, load_runtime: Loader) -> None:
        self._contract = contract
        self._load_runtime = load_runtime
        self._loading = threading.Lock()
        self._previous: Loaded | None = None
        self._abandoned: str | None = None  # version the operator rolled back from
        self._awaited: str | None = None  # policy server that is to drive, once it is there
        self.current: Loaded | None = None
        self.pinned = False
        self.recorded: Observation | None = None  # set by the owner: a real observation for the next dry run

    def load(self, uri: str, sha256: str = "", pin: bool = False) -> Loaded:
        """Operator's order: load `uri`, whatever is pinned; `pin` refuses later announcements, else unpins."""
        with self._loading:
            loaded = self._swap(self._check(uri, sha256))
            self.pinned = pin
            self._abandoned = self._awaited = None
            return loaded

    def wait_for(self, server: str) -> None:
        """The policy behind address `server` is to drive: announcements are refused, before it is there too."""
        self._awaited, self.pinned = server, True

    def adopt(self, runtime: PolicyRuntime) -> Loaded | None:
        """Take the policy that was waited for, which has passed every check; None if it is no longer wanted."""
        with self._loading:
            if self._awaited is None:
                return None
            self._awaited = None
            return self._swap(Loaded(runtime, Path(), 0.0))

    def wants(self, version: str) -> bool:
        """Return whether an announced version is news; AloeError while pinned, and for one that was rolled back."""
        if self.current is not None and self.current.version == version:
            return False
        pinned = self._awaited or (self.current.version if self.current is not None else None)
        if self.pinned and pinned:
            raise AloeError(f"Checkpoint {version}: refused, {pinned} is pinned; load it to unpin.")
        if version == self._abandoned:
            raise AloeError(f"Checkpoint {version}: refused, it was rolled back; load it explicitly to use it.")
        return True

    def announce(self, uri: str, sha256: str, version: str) -> Loaded:
        """Trainer's announcement: load `uri`, if `wants(version)`."""
        with self._loading:
            if not self.wants(version):
                assert self.current is not None
                return self.current
            return self._swap(self._check(uri, sha256))

    def rollback(self) -> Loaded:
        """Return to the previous policy; AloeError if there is none."""
        with self._loading:
            if self._previous is None or self.current is None:
                raise AloeError("Rollback: no previous checkpoint is loaded; load one by its directory.")
            self._abandoned = self.current.version
            self.current, self._previous = self._previous, None
            return self.current

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where the policies come from that drive now, or would after a rollback."""
        return tuple(loaded.directory for loaded in (self.current, self._previous) if loaded is not None)

    def _swap(self, loaded: Loaded) -> Loaded:
        self._previous, self.current = self.current, loaded
        return loaded

    def _check(self, uri: str, sha256: str) -> Loaded:
        directory = local_directory(uri)
        manifest = verify_checkpoint(directory, contract_hash=self._contract.hash, expect_sha256=sha256 or None)
        try:
            runtime = self._load_runtime(directory, sha256 or None)
            if runtime.version != manifest.version:
                raise AloeError(
                    f"{directory}: the policy calls itself {runtime.version!r}: expected {manifest.version!r}."
                )
            latency = self._dry_run(runtime)
        except MODEL_ERRORS as error:
            raise AloeError(f"{directory}: the policy cannot run ({type(error).__name__}: {_line(error)}).") from error
        return Loaded(runtime, directory, latency)

    def _dry_run(self, runtime: PolicyRuntime) -> float:
        """Infer from a made-up and, if there is one, a real observation; returns the time of the last one, s."""
        latency = 0.0
        for observation in (synthetic(self._contract), self.recorded or synthetic(self._contract)):
            start = time.perf_counter()
            inference = runtime.infer(observation)
            latency = time.perf_counter() - start
            check_inference(inference, self._contract, runtime.version)
        return latency


def check_inference(inference: Inference, contract: RobotContract, version: str) -> None:
    """AloeError unless the chunk has the contract's shape, is finite and near the joint limits, and so is its value."""
    chunk, what = inference.chunk, f"Policy {version}"
    shape = (contract.chunk.horizon, contract.action_dim)
    if chunk.actions.shape != shape:
        raise AloeError(f"{what}: its chunk has shape {chunk.actions.shape}: expected {shape}.")
    if not np.isfinite(chunk.actions).all():
        raise AloeError(f"{what}: its chunk is not finite: expected finite joint positions.")
    if not 1 <= chunk.execute <= contract.chunk.horizon:
        raise AloeError(f"{what}: execute = {chunk.execute}: expected 1 to {contract.chunk.horizon}.")
    reach = contract.upper - contract.lower  # small excess is the safety filter's job, a whole range is a wrong model
    outside = np.abs(chunk.actions - (contract.upper + contract.lower) / 2).max(axis=0) > 1.5 * reach
    if outside.any():
        joint = contract.joints[int(np.argmax(outside))]
        raise AloeError(f"{what}: its chunk moves {joint.name} far beyond [{joint.min}, {joint.max}] {joint.unit}.")
    value = inference.value
    if value is not None and not np.isfinite([value.q_min, value.q_mean, value.q_std, value.v]).all():
        raise AloeError(f"{what}: its value is not finite: expected finite q_min, q_mean, q_std and v.")


def synthetic(contract: RobotContract) -> Observation:
    """Return grey images and every joint in the middle of its range."""
    return Observation(
        stamp=0,
        images={c.name: np.full((c.height, c.width, 3), 128, np.uint8) for c in contract.cameras},
        state=((contract.lower + contract.upper) / 2).astype(np.float32),
        instruction="dry run",
    )


def local_directory(uri: str) -> Path:
    """Return the directory of a path or file:// URI; AloeError for anything else."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        rest = uri
    elif scheme != "file":
        raise AloeError(f"Checkpoint {uri!r}: expected a directory or a file:// URI, since {scheme} was not fetched.")
    if not rest:
        raise AloeError("Checkpoint: uri is empty: expected a checkpoint directory.")
    return Path(rest)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no details"

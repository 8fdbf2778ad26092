"""A native checkpoint as a policy server offers it."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.types import Observation, Plan
from aloe_policy.remote import offer as keys
from aloe_policy.remote.offer import ServerOffer
from aloe_policy.runtime import FlowRuntime
from aloe_policy.swap import check_inference, synthetic

MAX_SAMPLES = 256


class NativeService:
    """Takes observation/<camera> (uint8 [h, w, 3]), observation/state (float [J], contract order) and prompt.

    Without a seed of the client's every answer is sampled anew.
    """

    def __init__(self, runtime: FlowRuntime, contract: RobotContract) -> None:
        for plan in (None, _resting(contract)):  # the first one of either kind takes long, and nobody waits yet
            inference = runtime.infer(replace(synthetic(contract), plan=plan))
            check_inference(inference, contract, runtime.version)
        self._runtime, self._contract = runtime, contract
        self._seed, self._numbers = secrets.randbits(32), itertools.count()
        self.offer = ServerOffer(
            version=runtime.version,
            contract_hash=contract.hash,
            horizon=contract.chunk.horizon,
            images={f"observation/{c.name}": (c.height, c.width) for c in contract.cameras},
            max_samples=MAX_SAMPLES,
            chooses=runtime.critic is not None,
            repeatable=True,
            chunking=runtime.native.chunking.mode,
        )

    def answer(self, observation: dict[str, Any]) -> dict[str, Any]:
        obs = self._observation(observation)
        samples = _whole(observation, keys.SAMPLES, 1, MAX_SAMPLES)
        if observation.get(keys.ALL):
            chunks = self._runtime.sample(obs, samples or 1)
            return {"actions": chunks[0], keys.ALL: chunks, keys.SAMPLED: len(chunks)}
        inference = self._runtime.infer(obs, samples)
        answer = {
            "actions": inference.chunk.actions,
            keys.FROZEN: inference.chunk.frozen_steps,
            keys.SAMPLED: inference.candidates,
        }
        return answer if inference.value is None else {**answer, keys.VALUE: asdict(inference.value)}

    def _observation(self, given: dict[str, Any]) -> Observation:
        images = {}
        for camera in self._contract.camera_names:
            image = given.get(f"observation/{camera}")
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
                raise AloeError(f"Observation: observation/{camera}: expected an image, uint8 [height, width, 3].")
            images[camera] = image.copy()  # torch wants memory that may be written
        state = given.get("observation/state")
        if not isinstance(state, np.ndarray) or state.dtype.kind not in "fiu":
            raise AloeError("Observation: observation/state: expected an array of joint positions.")
        seed = _whole(given, keys.SEED, 0, 2**63 - 1)
        number = _whole(given, keys.CHUNK_NUMBER, 0, 2**31)
        return Observation(
            stamp=0,
            images=images,
            state=state.astype(np.float32),
            instruction=str(given.get("prompt", "")),
            seed=self._seed if seed is None else seed,
            chunk_number=next(self._numbers) if number is None else number,
            plan=_plan(given),
        )


def _resting(contract: RobotContract) -> Plan:
    return Plan(np.tile(synthetic(contract).state, (contract.chunk.horizon - contract.chunk.execute or 1, 1)), 1)


def _plan(given: dict[str, Any]) -> Plan | None:
    rows = given.get(keys.PLAN)
    if rows is None:
        return None
    if not isinstance(rows, np.ndarray):
        raise AloeError(f"Observation: {keys.PLAN}: expected an array [rows, joints].")
    return Plan(rows, _whole(given, keys.FROZEN, 0, len(rows)) or 0)


def _whole(given: dict[str, Any], key: str, low: int, high: int) -> int | None:
    value = given.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise AloeError(f"Observation: {key} = {value!r}: expected a whole number, {low} to {high}.")
    return int(value)

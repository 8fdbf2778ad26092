"""A policy of LeRobot as a policy server offers it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType

from aloe_core.errors import AloeError
from aloe_policy.remote import offer as keys
from aloe_policy.remote.lerobot.loading import LeRobotPolicy
from aloe_policy.remote.offer import ServerOffer
from aloe_policy.swap import MODEL_ERRORS

MAX_SAMPLES = 64
_IMAGES, _STATE = "observation.images.", "observation.state"
_EMPTY = "empty_camera"  # features that LeRobot fills itself


class LeRobotService:
    """Takes observation/<camera> (uint8 [h, w, 3], sizes as trained), observation/state (float [J]) and prompt.

    <camera> is the part after observation.images. of the policy's feature. Actions are in the units it was trained in.
    """

    def __init__(self, policy: LeRobotPolicy) -> None:
        self._policy = policy
        features = policy.model.config.input_features
        self._images = {
            key: feature.shape
            for key, feature in features.items()
            if feature.type is FeatureType.VISUAL and _EMPTY not in key
        }
        self._state = features[_STATE].shape if _STATE in features else None
        horizon = len(self._sample(self._made_up(), 1)[0])
        self.offer = ServerOffer(
            version=policy.version,
            horizon=horizon,
            images={_name(key): (shape[1], shape[2]) for key, shape in self._images.items()},
            max_samples=MAX_SAMPLES,
        )

    def answer(self, observation: dict[str, Any]) -> dict[str, Any]:
        samples = observation.get(keys.SAMPLES, 1)
        if isinstance(samples, bool) or not isinstance(samples, int) or not 1 <= samples <= MAX_SAMPLES:
            raise AloeError(f"Observation: {keys.SAMPLES} = {samples!r}: expected a whole number, 1 to {MAX_SAMPLES}.")
        try:
            chunks = self._sample(observation, samples)
        except MODEL_ERRORS as error:
            text = " ".join(str(error).split())[:400]
            raise AloeError(f"Policy {self._policy.version}: {type(error).__name__}: {text}.") from error
        answer = {"actions": chunks[0], keys.SAMPLED: samples}
        return {**answer, keys.ALL: chunks} if observation.get(keys.ALL) else answer

    @torch.inference_mode()
    def _sample(self, observation: dict[str, Any], n: int) -> np.ndarray:
        """Return n chunks, float32 [n, H, A]; the observation is prepared once."""
        policy = self._policy
        policy.model.reset()  # some keep what they saw before; every request stands alone
        batch = policy.before(self._inputs(observation))
        if n > 1:
            batch = {k: v.expand(n, *v.shape[1:]) if _batched(k, v) else v for k, v in batch.items()}
        chunks = policy.model.predict_action_chunk(batch)
        done = torch.cat([policy.after(chunk[None]) for chunk in chunks])
        return done.float().cpu().numpy()

    def _inputs(self, given: dict[str, Any]) -> dict[str, Any]:
        inputs: dict[str, Any] = {"task": str(given.get("prompt", ""))}
        for key, shape in self._images.items():
            image = given.get(_name(key))
            expected = (shape[1], shape[2], 3)
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != expected:
                got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
                raise AloeError(f"Observation: {_name(key)} is {got}: expected an image, uint8 {expected}.")
            inputs[key] = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        if self._state is not None:
            state = given.get("observation/state")
            if not isinstance(state, np.ndarray) or state.shape != tuple(self._state) or not np.isfinite(state).all():
                got = state.shape if isinstance(state, np.ndarray) else type(state).__name__
                raise AloeError(f"Observation: observation/state is {got}: expected {self._state[0]} finite numbers.")
            inputs[_STATE] = torch.from_numpy(state.astype(np.float32))
        return inputs

    def _made_up(self) -> dict[str, Any]:
        images = {_name(key): np.full((*shape[1:], 3), 128, np.uint8) for key, shape in self._images.items()}
        state = {} if self._state is None else {"observation/state": np.zeros(self._state, np.float32)}
        return {**images, **state, "prompt": "dry run"}


def _name(key: str) -> str:
    return f"observation/{key.removeprefix(_IMAGES)}"


def _batched(key: str, value: Any) -> bool:
    return key.startswith("observation.") and isinstance(value, torch.Tensor) and len(value) == 1

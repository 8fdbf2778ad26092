"""Observations as clients send them, into what LeRobot's processors take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType

from aloe_core.errors import AloeError

_IMAGES, _STATE = "observation.images.", "observation.state"
_EMPTY = "empty_camera"  # features that LeRobot fills itself


class Inputs:
    """observation/<camera> (uint8 [h, w, 3], sizes as trained), observation/state (float [J]) and prompt.

    <camera> is the part after observation.images. of the policy's feature.
    """

    def __init__(self, config: Any) -> None:
        """`config`: lerobot.configs.PreTrainedConfig."""
        features = config.input_features
        self._images = {
            key: feature.shape
            for key, feature in features.items()
            if feature.type is FeatureType.VISUAL and _EMPTY not in key
        }
        self._state = tuple(features[_STATE].shape) if _STATE in features else None

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Key of each image in an observation -> height, width."""
        return {_name(key): (shape[1], shape[2]) for key, shape in self._images.items()}

    @property
    def state_dim(self) -> int:
        return self._state[0] if self._state else 0

    def one(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return one observation for the processors; AloeError if it does not fit."""
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
            if not isinstance(state, np.ndarray) or state.shape != self._state or not np.isfinite(state).all():
                got = state.shape if isinstance(state, np.ndarray) else type(state).__name__
                raise AloeError(f"Observation: observation/state is {got}: expected {self._state[0]} finite numbers.")
            inputs[_STATE] = torch.from_numpy(state.astype(np.float32))
        return inputs

    def batch(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return B observations, arrays [B, ...] and B prompts; AloeError if one of them does not fit."""
        prompts = given["prompt"]
        each = [self.one({key: value[i] for key, value in given.items()}) for i in range(len(prompts))]
        tensors = {key: torch.stack([one[key] for one in each]) for key in each[0] if key != "task"}
        return {**tensors, "task": [one["task"] for one in each]}

    def made_up(self) -> dict[str, Any]:
        """Return a grey observation."""
        images = {_name(key): np.full((*shape[1:], 3), 128, np.uint8) for key, shape in self._images.items()}
        state = {} if self._state is None else {"observation/state": np.zeros(self._state, np.float32)}
        return {**images, **state, "prompt": "dry run"}


def _name(key: str) -> str:
    return f"observation/{key.removeprefix(_IMAGES)}"

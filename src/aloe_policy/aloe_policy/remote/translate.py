"""Observations into the server's words, its answers into joint positions."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from typing import Any

import cv2
import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.types import Observation
from aloe_policy.remote.mapping import CameraKey, Key, Mapping, Number


class Translator:
    """A Mapping at work for one contract; `images` is what the server says of sizes, key -> (height, width)."""

    def __init__(
        self, mapping: Mapping, contract: RobotContract, images: Dict[str, tuple[int, int]] | None = None
    ) -> None:
        self._mapping, self._contract, self._images = mapping, contract, images or {}
        everything = tuple(Number(joint=name) for name in contract.joint_names)
        index = {name: i for i, name in enumerate(contract.joint_names)}
        state = mapping.state.joints or everything if mapping.state else ()
        self._state_index = [index[n.joint] for n in state]
        self._state_scale = np.array([n.scale for n in state])
        self._state_offset = np.array([n.offset for n in state])
        columns = mapping.actions.columns or everything
        self._width = len(columns)
        self._used = [(i, index[n.joint], n) for i, n in enumerate(columns) if n is not None]
        self._stretch = contract.dt * (mapping.actions.rate_hz or 1 / contract.dt)  # server rows a control step

    def observation(self, obs: Observation) -> dict[str, Any]:
        """Return the request; AloeError if the observation lacks a camera or a finite joint state."""
        request: dict[str, Any] = {}
        for name, camera in self._mapping.cameras.items():
            image = obs.images.get(name)
            if image is None or image.ndim != 3:
                raise AloeError(f"Observation: no image of camera {name!r}, which the policy server is sent.")
            _put(request, camera.key, self._image(image, camera))
        if obs.state.shape != (self._contract.action_dim,) or not np.isfinite(obs.state).all():
            raise AloeError(
                f"Observation: joint state of shape {obs.state.shape}: "
                f"expected {self._contract.action_dim} finite numbers."
            )
        if self._mapping.state:
            state = obs.state[self._state_index] * self._state_scale + self._state_offset
            _put(request, self._mapping.state.key, state.astype(np.float32))
        if self._mapping.prompt:
            _put(request, self._mapping.prompt, obs.instruction)
        return request

    def actions(self, answer: Dict[str, Any], state: np.ndarray, who: str) -> np.ndarray:
        """Return joint positions float32 [H, A] of the answer; `who` begins the sentence of an AloeError."""
        key = self._mapping.actions.key
        if key not in answer:
            raise AloeError(f"{who}: its answer has no {key!r}; it has {', '.join(map(str, answer)) or 'nothing'}.")
        return self.positions(answer[key], state, who)

    def positions(self, given: Any, state: np.ndarray, who: str) -> np.ndarray:
        """Return joint positions float32 [H, A] of rows [at least as many, columns] from the server."""
        rows = np.asarray(given)
        if rows.dtype.kind not in "fiu" or rows.ndim != 2 or rows.shape[1] != self._width:
            raise AloeError(
                f"{who}: its actions have shape {rows.shape} and dtype {rows.dtype}: "
                f"expected rows of {self._width} numbers."
            )
        horizon = self._contract.chunk.horizon
        needed = int(np.ceil((horizon - 1) * self._stretch - 1e-9)) + 1
        if len(rows) < needed:
            raise AloeError(
                f"{who}: its chunk has {len(rows)} rows: expected at least {needed} for the {horizon} control steps of "
                f"contract {self._contract.name}; set its chunk.horizon to what the server gives."
            )
        if not np.isfinite(rows).all():
            raise AloeError(f"{who}: its chunk is not finite: expected finite numbers.")
        rows = rows[:needed].astype(np.float64)
        positions = np.repeat(state[None].astype(np.float64), len(rows), axis=0)
        for column, joint, number in self._used:
            values = rows[:, column]
            if number.kind == "step":
                positions[:, joint] += np.cumsum(values) / number.scale
            elif number.kind == "delta":
                positions[:, joint] += values / number.scale
            else:
                positions[:, joint] = (values - number.offset) / number.scale
        return self._at_control_rate(positions, horizon).astype(np.float32)

    def numbers(self, positions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return the server's rows float32 [H, columns] of joint positions [H, A]: what `positions` undoes.

        AloeError where the mapping loses something: columns that stand for no joint, rows at another rate.
        """
        if len(self._used) < self._width:
            raise AloeError("Mapping: actions.columns has a null: a policy cannot be trained on a column of nothing.")
        if not np.isclose(self._stretch, 1.0):
            raise AloeError("Mapping: actions.rate_hz: a policy can be trained at the contract's control rate only.")
        rows = np.empty((len(positions), self._width))
        for column, joint, number in self._used:
            values = positions[:, joint].astype(np.float64)
            if number.kind == "step":
                rows[:, column] = np.diff(values, prepend=float(state[joint])) * number.scale
            elif number.kind == "delta":
                rows[:, column] = (values - float(state[joint])) * number.scale
            else:
                rows[:, column] = values * number.scale + number.offset
        return rows.astype(np.float32)

    def _at_control_rate(self, positions: np.ndarray, horizon: int) -> np.ndarray:
        if np.isclose(self._stretch, 1.0):
            return positions[:horizon]
        wanted, have = np.arange(horizon) * self._stretch, np.arange(len(positions))
        return np.stack([np.interp(wanted, have, column) for column in positions.T], axis=1)

    def _image(self, image: np.ndarray, camera: CameraKey) -> np.ndarray:
        size = camera.size or (self._images.get(camera.key) if isinstance(camera.key, str) else None)
        if size is not None and image.shape[:2] != tuple(size):
            image = _stretched(image, *size) if camera.fit == "stretch" else _padded(image, *size)
        return np.ascontiguousarray(image.transpose(2, 0, 1)) if camera.layout == "chw" else image


def _stretched(image: np.ndarray, height: int, width: int) -> np.ndarray:
    smaller = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _padded(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize without distortion, centred on black, as resize_with_pad of openpi does."""
    ratio = max(image.shape[1] / width, image.shape[0] / height)
    h, w = max(1, int(image.shape[0] / ratio)), max(1, int(image.shape[1] / ratio))
    top, left = (height - h) // 2, (width - w) // 2
    canvas = np.zeros((height, width, 3), image.dtype)
    canvas[top : top + h, left : left + w] = _stretched(image, h, w)
    return canvas


def _put(request: dict[str, Any], key: Key, value: Any) -> None:
    if isinstance(key, str):
        request[key] = value
        return
    for part in key[:-1]:
        request = request.setdefault(part, {})
    request[key[-1]] = value

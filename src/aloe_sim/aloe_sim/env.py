"""The station as a Gymnasium environment, for those who bring their own learner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_sim.station import Station


class SortingEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """`aloe/Sorting-v0`: absolute joint positions in, images and joint positions out, one control tick a step.

    Reward 1 on success, else 0; `terminated` on success or failure, `truncated` at the task's time limit.
    Images are rendered at every step, whatever the rate of the contract's cameras.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (Gymnasium's own name and type)

    def __init__(
        self,
        contract: RobotContract | str | Path,
        level: str = "easy",
        variant: str = "train",
        render_mode: str | None = None,
    ) -> None:
        """`contract` or its file; AloeError as Station, or for a render mode other than rgb_array."""
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise AloeError(f"Unknown render mode {render_mode!r}: expected rgb_array.")
        self.render_mode = render_mode
        self.contract = contract if isinstance(contract, RobotContract) else load_contract(contract)
        self._station = Station(self.contract, "sorting", level, variant)
        self.metadata = {**self.metadata, "render_fps": self.contract.control.rate_hz}
        low, high = self.contract.lower.astype(np.float32), self.contract.upper.astype(np.float32)
        images = {c.name: spaces.Box(0, 255, (c.height, c.width, 3), np.uint8) for c in self.contract.cameras}
        # Physics may carry a joint a little beyond its limit.
        self.observation_space = spaces.Dict(
            {"state": spaces.Box(-np.inf, np.inf, low.shape, np.float32), "images": spaces.Dict(images)}
        )
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    @property
    def instruction(self) -> str:
        return self._station.instruction

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._station.reset(seed if seed is not None else int(self.np_random.integers(2**31)))
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        station = self._station
        station.step(action)
        terminated = station.success or station.failure
        truncated = not terminated and station.tick >= station.steps_limit
        return self._observation(), float(station.success), terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """Return the front view, uint8 [480, 640, 3] RGB, in render mode rgb_array."""
        return self._station.view("front", 640, 480) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self._station.close()

    def _observation(self) -> dict[str, Any]:
        station = self._station
        return {
            "state": station.joint_positions(),
            "images": {name: station.render(name) for name in self.contract.camera_names},
        }

    def _info(self) -> dict[str, Any]:
        station = self._station
        return {
            "instruction": station.instruction,
            "success": station.success,
            "failure": station.failure,
            "stage": station.stage,
        }


def register() -> None:
    """Make `gymnasium.make("aloe/Sorting-v0", contract=...)` work; harmless when repeated."""
    if "aloe/Sorting-v0" not in gymnasium.registry:
        gymnasium.register("aloe/Sorting-v0", entry_point="aloe_sim.env:SortingEnv")

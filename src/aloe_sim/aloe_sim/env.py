"""The station as Gymnasium environments, one a task, for those who bring their own learner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_sim.disturb import Disturbances
from aloe_sim.station import Station
from aloe_sim.tasks import TASKS, first_level

_ENTRY_POINT = "aloe_sim.env:StationEnv"


class StationEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Absolute joint positions in, images and joint positions out, one control tick a step.

    Reward 1 on success, else 0; `terminated` on success or failure, `truncated` at the task's time limit. The stage
    in `info` is for diagnosis. Images are rendered at every step, whatever the rate of the contract's cameras.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (Gymnasium's own name and type)

    def __init__(
        self,
        contract: RobotContract | str | Path,
        task: str = "sorting",
        level: str | None = None,
        variant: str = "train",
        randomisation: str = "none",
        disturbances: Disturbances | None = None,
        render_mode: str | None = None,
    ) -> None:
        """`contract` or its file, `level` None for the task's first; AloeError as Station, or for a render mode."""
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise AloeError(f"Unknown render mode {render_mode!r}: expected rgb_array.")
        self.render_mode = render_mode
        self.contract = contract if isinstance(contract, RobotContract) else load_contract(contract)
        self.station = Station(
            self.contract,
            task,
            level or first_level(task),
            variant,
            randomisation=randomisation,
            disturbances=disturbances,
        )
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
        return self.station.instruction

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.station.reset(seed if seed is not None else int(self.np_random.integers(2**31)))
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """AloeError for an action of another size or one that is not finite."""
        station = self.station
        action = np.asarray(action, np.float64)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise AloeError(f"Action {action.tolist()}: expected {self.action_space.shape[0]} finite numbers.")
        station.step(action)
        terminated = station.success or station.failure
        truncated = not terminated and station.tick >= station.steps_limit
        return self._observation(), float(station.success), terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """Return the front view, uint8 [480, 640, 3] RGB, in render mode rgb_array."""
        return self.station.view("front", 640, 480) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.station.close()

    def _observation(self) -> dict[str, Any]:
        station = self.station
        return {
            "state": station.joint_positions(),
            # A frozen camera repeats one array.
            "images": {name: station.render(name).copy() for name in self.contract.camera_names},
        }

    def _info(self) -> dict[str, Any]:
        station = self.station
        return {
            "instruction": station.instruction,
            "success": station.success,
            "failure": station.failure,
            "stage": station.stage,
        }


def env_id(task: str) -> str:
    """Return the Gymnasium id of a task, e.g. aloe/PhonePacking-v0."""
    return f"aloe/{''.join(word.capitalize() for word in task.split('_'))}-v0"


def register() -> None:
    """Make `gymnasium.make("aloe/Sorting-v0", contract=...)` work for every task; harmless when repeated."""
    for task in TASKS:
        if env_id(task) not in gymnasium.registry:
            gymnasium.register(env_id(task), entry_point=_ENTRY_POINT, kwargs={"task": task})


register()  # so that gymnasium.make("aloe_sim.env:aloe/Sorting-v0", contract=...) needs no import

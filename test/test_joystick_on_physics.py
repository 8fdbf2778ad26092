"""The joystick moves real (simulated) hands: takeover, arbiter and physics in one process, in lock-step."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from aloe_core.arbiter import Arbiter
from aloe_core.contract import load_contract
from aloe_core.control import Mode, RobotState
from aloe_core.kinematics import load_model
from aloe_sim.station import Station
from aloe_teleop.takeover import Takeover

ROBOTS = Path(__file__).parents[1] / "config/robots"
REST = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]  # triggers let go
UP, AWAY, RIGHT = (4, 1.0), (1, 1.0), (0, -1.0)


class Stage:
    """One robot, and a person who holds dead-man and clutch."""

    def __init__(self, name: str) -> None:
        self.contract = load_contract(ROBOTS / f"{name}.yaml")
        self.model = load_model(self.contract)
        self.station = Station(self.contract, "sorting", "easy", render=False)
        self.station.reset(3)
        self.takeover = Takeover(self.contract, lockstep=True, clutch=True, model=self.model)
        self.arbiter = Arbiter(self.contract, lockstep=True, start=Mode.RESET)
        pad = self.contract.takeover
        held = (pad.deadman_button, pad.pad.clutch_button)
        self.buttons = [int(i in held) for i in range(11)]
        self.clamped = 0

    def tick(self, axes: list[float]) -> None:
        stamp, position = self.station.stamp, self.station.joint_positions().astype(np.float64)
        self.takeover.on_joy(stamp, self.buttons, axes)
        command = self.takeover.on_follower(stamp, stamp, position).command
        assert command is not None and command.engaged
        self.arbiter.update(stamp, command)
        step = self.arbiter.update(stamp, RobotState(stamp, position)).step
        self.takeover.on_executed(step.stamp, step.executed)
        self.clamped += bool(step.clamp)
        self.station.step(step.executed)

    def push(self, axis: int, value: float) -> np.ndarray:
        """Push a stick for a second, wait until the arm has come to rest, and return the way of the hand [3], m."""
        before = self.model.points(self.station.joint_positions())[0].copy()
        axes = REST.copy()
        axes[axis] = value
        for _ in range(round(self.contract.control.rate_hz)):
            self.tick(axes)
        for _ in range(round(0.4 * self.contract.control.rate_hz)):
            self.tick(REST)
        return self.model.points(self.station.joint_positions())[0] - before


@pytest.mark.parametrize("name", ["aloha_sim", "desk_arm"])
def test_a_stick_pushed_for_a_second_moves_the_hand_as_far_as_its_speed_says(name):
    stage = Stage(name)
    group = stage.contract.groups[0]
    for _ in range(5):
        stage.tick(REST)
    (_, turned) = stage.model.end_effectors(stage.station.joint_positions())[group]
    np.testing.assert_allclose(stage.push(*UP), [0, 0, 0.15], atol=0.01)
    np.testing.assert_allclose(stage.push(*AWAY), [0, 0.15, 0], atol=0.01)
    np.testing.assert_allclose(stage.push(*RIGHT), [0.15, 0, 0], atol=0.01)
    (_, turned_at_end) = stage.model.end_effectors(stage.station.joint_positions())[group]
    # A hand of five joints cannot keep its rotation exactly.
    assert 2 * np.arccos(min(1.0, abs(turned @ turned_at_end))) < np.radians(2)
    assert stage.clamped == 0
    stage.station.close()

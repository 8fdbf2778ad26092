"""Time and events in, decisions out: what the arbiter's timeline tests share."""

from pathlib import Path

import numpy as np

from aloe_core.arbiter import Arbiter
from aloe_core.contract import load_contract
from aloe_core.control import AskMode, Decision, Mode, RobotState, TaskInfo, Teleop
from aloe_core.types import Chunk

CONTRACT = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")
DT = 20_000_000  # ns
MS = 1_000_000
J = CONTRACT.action_dim
HOME = (CONTRACT.lower + CONTRACT.upper) / 2
ALL = np.arange(J)
LEFT, RIGHT = (np.flatnonzero(CONTRACT.group_of == g) for g in range(2))


def state(k: int, position=HOME) -> RobotState:
    return RobotState(k * DT, np.asarray(position, dtype=np.float64))


def chunk(k: int, name: str = "", rows: int = 50, execute: int = 25) -> Chunk:
    """Row i moves every joint by 0.1 mrad times i."""
    actions = (HOME + 1e-4 * np.arange(rows)[:, None]).astype(np.float32)
    return Chunk(name or f"chunk@{k}", k * DT, CONTRACT.dt, actions, execute, "v1")


def constant(k: int, offset: float, name: str = "", rows: int = 50) -> Chunk:
    """Every row asks for HOME + offset."""
    actions = np.tile((HOME + offset).astype(np.float32), (rows, 1))
    return Chunk(name or f"chunk@{k}", k * DT, CONTRACT.dt, actions, 25, "v1")


def driving(k: int, offset: float = 0.0, joints: np.ndarray = ALL) -> Teleop:
    return Teleop(k * DT, True, joints, HOME[joints] + offset)


def released(k: int) -> Teleop:
    return Teleop(k * DT, False)


class Timeline:
    """Drives an arbiter; `now` follows wall milliseconds given by the test."""

    def __init__(self, lockstep=True, start=Mode.HOLD, contract=CONTRACT, **kwargs):
        self.arbiter = Arbiter(contract, lockstep=lockstep, start=start, **kwargs)
        self.now = 0

    def __call__(self, event=None, ms: int = 0) -> Decision:
        self.now += ms * MS
        return self.arbiter.update(self.now, event)

    @property
    def mode(self) -> Mode:
        return self.arbiter.mode


def in_policy(supervision="supervise", **kwargs) -> Timeline:
    """In lock-step, at state 0, waiting for the first chunk."""
    t = Timeline(start=Mode.RESET, **kwargs)
    t(TaskInfo("e1", supervision))
    t(state(0))
    t(AskMode(Mode.POLICY, "episode begins"))
    return t


def timer_in_policy(**kwargs) -> Timeline:
    t = Timeline(lockstep=False, **kwargs)
    t(TaskInfo("e1", "supervise"))
    t(state(0))
    t(AskMode(Mode.POLICY, "go"))
    return t

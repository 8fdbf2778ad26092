"""Messages to and from the types of aloe_core."""

import numpy as np
from aloe_msgs.msg import ActionChunk, ValueEstimate
from sensor_msgs.msg import JointState

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.types import Chunk, Inference, Value
from aloe_ros import stamps


class JointReader:
    """Reads joint positions by name; the order is looked up again only when the names change."""

    def __init__(self, contract: RobotContract, what: str = "joint state") -> None:
        self._contract = contract
        self._what = what
        self._names: list[str] | None = None
        self._order = np.zeros(0, dtype=np.intp)

    def positions(self, names: list[str], values: object) -> np.ndarray:
        """Return float64 [J] in contract order; AloeError for a missing joint or a wrong number of values."""
        array = np.asarray(values, dtype=np.float64)
        if len(array) != len(names):
            raise AloeError(f"{self._what}: {len(names)} joint names but {len(array)} positions.")
        if names != self._names:
            self._order = np.array(self._contract.order(names, self._what), dtype=np.intp)
            self._names = list(names)
        return array[self._order]

    def read(self, msg: JointState) -> np.ndarray:
        """Return float64 [J], the positions of `msg` in contract order; AloeError as in `positions`."""
        return self.positions(msg.name, msg.position)


class JointSubsetReader:
    """Reads positions of some of the contract's joints by name, as a leader arm or a person's command gives them."""

    def __init__(self, contract: RobotContract, what: str) -> None:
        self._contract = contract
        self._what = what
        self._names: list[str] = []
        self._joints = np.zeros(0, dtype=np.intp)

    def read(self, names: list[str], positions: object) -> tuple[np.ndarray, np.ndarray]:
        """Return contract indices [n] and float64 positions [n]; AloeError for an unknown joint or a wrong count."""
        values = np.array(positions, dtype=np.float64)
        if len(values) != len(names):
            raise AloeError(f"{self._what}: {len(names)} joint names but {len(values)} positions.")
        if names != self._names:
            known = self._contract.joint_names
            unknown = [name for name in names if name not in known]
            if unknown:
                raise AloeError(
                    f"{self._what}: no joint {unknown[0]!r} in contract {self._contract.name}; "
                    f"it has {', '.join(known)}."
                )
            self._joints = np.array([known.index(name) for name in names], dtype=np.intp)
            self._names = list(names)
        return self._joints, values


def joint_state_msg(contract: RobotContract, stamp: int, positions: np.ndarray) -> JointState:
    """Return the joint state of `positions` [J] (contract order) at `stamp` (ns)."""
    msg = JointState(
        name=contract.joint_names,
        position=np.asarray(positions, dtype=np.float64).tolist(),
    )
    stamps.fill(msg.header.stamp, stamp)
    return msg


def chunk_to_msg(inference: Inference, contract: RobotContract) -> ActionChunk:
    """Return the message of an inferred chunk."""
    chunk = inference.chunk
    msg = ActionChunk(
        chunk_id=chunk.chunk_id,
        policy_version=chunk.policy_version,
        joint_names=contract.joint_names,
        dt=chunk.dt,
        horizon=chunk.actions.shape[0],
        execute=chunk.execute,
        frozen_steps=chunk.frozen_steps,
        inference_latency=inference.latency,
        candidates=inference.candidates,
    )
    msg.actions.frombytes(np.ascontiguousarray(chunk.actions, dtype=np.float32).tobytes())
    stamps.fill(msg.header.stamp, chunk.stamp)
    return msg


def chunk_from_msg(msg: ActionChunk, contract: RobotContract) -> Chunk:
    """Return the chunk of `msg`; AloeError names chunk, field, value and expectation if it must not run."""
    what = f"Chunk {msg.chunk_id!r}"
    columns = len(msg.joint_names)
    if msg.horizon < 1 or len(msg.actions) != msg.horizon * columns:
        raise AloeError(f"{what}: actions has {len(msg.actions)} values: expected {msg.horizon} x {columns}.")
    if not 1 <= msg.execute <= msg.horizon:
        raise AloeError(f"{what}: execute = {msg.execute}: expected 1 to {msg.horizon}.")
    if abs(msg.dt - contract.dt) > 1e-6:
        raise AloeError(f"{what}: dt = {msg.dt}: expected {contract.dt}, the control period of {contract.name}.")
    order = contract.order(msg.joint_names, what)
    actions = np.array(msg.actions, dtype=np.float32).reshape(msg.horizon, columns)[:, order]
    if not np.isfinite(actions).all():
        row = int(np.argwhere(~np.isfinite(actions))[0, 0])
        raise AloeError(f"{what}: row {row} is not finite: expected finite joint positions.")
    return Chunk(
        chunk_id=msg.chunk_id,
        stamp=stamps.to_ns(msg.header.stamp),
        dt=msg.dt,
        actions=actions,
        execute=msg.execute,
        policy_version=msg.policy_version,
        frozen_steps=msg.frozen_steps,
    )


def value_to_msg(value: Value, chunk: Chunk) -> ValueEstimate:
    """Return the message of the critic's opinion of `chunk`."""
    msg = ValueEstimate(
        chunk_id=chunk.chunk_id,
        policy_version=chunk.policy_version,
        critic_version=value.critic_version,
        q_min=value.q_min,
        q_mean=value.q_mean,
        q_std=value.q_std,
        v=value.v,
        advantage=value.advantage,
    )
    stamps.fill(msg.header.stamp, chunk.stamp)
    return msg


def value_from_msg(msg: ValueEstimate) -> Value:
    """Return the value carried by `msg`."""
    return Value(
        q_min=msg.q_min,
        q_mean=msg.q_mean,
        q_std=msg.q_std,
        v=msg.v,
        critic_version=msg.critic_version,
    )

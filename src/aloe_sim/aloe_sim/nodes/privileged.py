"""Layout of sim/state: what the simulator knows and a robot would not."""

from array import array
from dataclasses import dataclass

import numpy as np
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

# Latched, so that a watcher that starts late still sees the state the simulation waits in.
QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=50,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
_HEAD = 5


@dataclass(frozen=True)
class SimState:
    """One privileged state: stamp (ns), ticks since the reset, what the task says of it, the physics snapshot."""

    stamp: int
    tick: int
    success: bool
    failure: bool
    stage: float
    snapshot: np.ndarray


def pack(stamp: int, station) -> array:
    """Return the message data for `station` at `stamp` (ns)."""
    data = array("d", (stamp / 1e9, station.tick, station.success, station.failure, station.stage))
    data.frombytes(station.snapshot().tobytes())
    return data


def unpack(data) -> SimState:
    """Return the state packed by `pack`; stamps are exact to the ns below 1e6 s."""
    values = np.asarray(data, dtype=np.float64)
    return SimState(
        stamp=round(values[0] * 1e9),
        tick=int(values[1]),
        success=bool(values[2]),
        failure=bool(values[3]),
        stage=float(values[4]),
        snapshot=values[_HEAD:],
    )

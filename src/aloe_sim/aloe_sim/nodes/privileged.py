"""sim/state: what the simulator knows and a robot would not; sim/seen: how far the person who watches it has come."""

from array import array
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64MultiArray, MultiArrayDimension

from aloe_core.errors import AloeError

# Latched, so that a watcher that starts late still sees the state the simulation waits in.
QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=50,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
NEWEST = QoSProfile(  # for a reader that must not fall behind
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=QOS.reliability, durability=QOS.durability
)
# sim/seen: stamp of the newest state looked at. Latched, since the simulator may wait for it before it hears of it.
SEEN = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=QOS.reliability, durability=QOS.durability)
# States that lock-step may be ahead of the person: what she does about one must still fit the robot, or a takeover is
# refused because the leader arm is where the robot was.
AHEAD = 1
_HEAD = ("stamp", "tick", "success", "failure", "stage")


class Key(NamedTuple):
    """What a station is built from, besides the contract."""

    task: str
    level: str
    variant: str


@dataclass(frozen=True)
class SimState:
    """One privileged state."""

    key: Key
    stamp: int  # ns
    tick: int  # since the reset
    success: bool
    failure: bool
    stage: float  # 0..1
    snapshot: np.ndarray  # float64, for Station.restore


def message(key: Key) -> Float64MultiArray:
    """Return an empty message of a station built from `key`, to be filled every tick."""
    msg = Float64MultiArray()
    msg.layout.dim = [MultiArrayDimension(label="/".join(key), size=0, stride=0)]
    return msg


def fill(msg: Float64MultiArray, stamp: int, station) -> None:
    """Write the state of `station` at `stamp` (ns)."""
    data = array("d", (stamp / 1e9, station.tick, station.success, station.failure, station.stage))
    data.frombytes(station.snapshot().tobytes())
    msg.data = data
    msg.layout.dim[0].size = len(data)


def read(msg: Float64MultiArray) -> SimState:
    """Return the state in `msg`, its stamp exact to the ns below 1e6 s; AloeError if it is no simulator state."""
    label = msg.layout.dim[0].label.split("/") if msg.layout.dim else []
    if len(label) != 3 or len(msg.data) <= len(_HEAD):
        raise AloeError(
            f"sim/state with label {'/'.join(label)!r} and {len(msg.data)} values: expected task/level/variant, "
            f"then {', '.join(_HEAD)} and a snapshot."
        )
    values = np.array(msg.data, dtype=np.float64)
    stamp, tick, success, failure, stage = values[: len(_HEAD)]
    return SimState(
        Key(*label), round(stamp * 1e9), int(tick), bool(success), bool(failure), float(stage), values[len(_HEAD) :]
    )

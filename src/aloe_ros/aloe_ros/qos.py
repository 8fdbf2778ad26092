"""QoS profiles of the topic table in docs/architecture.md."""

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


DEFAULT = _profile(10)  # values, joy, leader, diagnostics
LATCHED = _profile(1, latched=True)  # task, mode, status, checkpoint, camera_info
# Whether a device is there: the lease tells its readers within that time that the process which knows has died.
PRESENCE = _profile(1, latched=True)
PRESENCE.liveliness = LivelinessPolicy.AUTOMATIC
PRESENCE.liveliness_lease_duration = Duration(seconds=1)
# Publishers offer these latched: lock-step waits for every message, also for one sent before its reader was matched.
COMMAND = _profile(200, latched=True)  # commands, executed steps, chunks, teleop commands, episode events
IMAGE = _profile(50, latched=True)
JOINT_STATES = _profile(100, latched=True)


def command_subscription(lockstep: bool) -> QoSProfile:
    """What a reader of COMMAND asks for; on a robot nothing that was sent before it listened may move anything."""
    return _profile(200, latched=lockstep)


def image_subscription(lockstep: bool) -> QoSProfile:
    """Best effort as for any sensor; reliable in lock-step simulation, where a lost frame would stop the run."""
    return _profile(50 if lockstep else 2, reliable=lockstep, latched=lockstep)


def joint_states_subscription(lockstep: bool) -> QoSProfile:
    """Best effort as for any sensor; reliable in lock-step simulation, where a lost state would stop the run."""
    return _profile(100 if lockstep else 10, reliable=lockstep, latched=lockstep)

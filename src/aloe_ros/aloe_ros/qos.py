"""QoS profiles of the topic table in docs/architecture.md."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


DEFAULT = _profile(10)  # chunks, values, joy, leader, privileged simulator state
LATCHED = _profile(1, latched=True)  # task, mode, status, checkpoint, camera_info
COMMAND = _profile(50)  # commands and executed steps, teleop commands, episode events
IMAGE = _profile(2)  # image publishers
JOINT_STATES = _profile(10)  # joint state publishers


def image_subscription(lockstep: bool) -> QoSProfile:
    """Best effort as for any sensor; reliable in lock-step simulation, where a lost frame would stop the run."""
    return _profile(2, reliable=lockstep)


def joint_states_subscription(lockstep: bool) -> QoSProfile:
    """Best effort as for any sensor; reliable in lock-step simulation, where a lost state would stop the run."""
    return _profile(10, reliable=lockstep)

"""What the episode recorder listens to."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError, bad_value

EXECUTED = "control/executed"
MODE = "control/mode"
TASK = "task"


@dataclass(frozen=True)
class Recorded:
    """A topic of the graph as its writer is agreed to offer it (docs/architecture.md)."""

    name: str  # relative
    type: str  # package/msg/Type
    latched: bool = False
    replayed: bool = False  # offered latched in lock-step, so that a reader matched late misses nothing
    sensor: bool = False  # may be offered best effort
    rate_hz: float = 0.0  # promised while the robot moves; 0 = nothing promised


def recorded_topics(contract: RobotContract, extra: list[str]) -> list[Recorded]:
    """Return every topic of the graph that belongs in a bag; `extra` adds `name:package/msg/Type`."""
    control = contract.control
    command = {"joint_trajectory": "trajectory_msgs/msg/JointTrajectory"}.get(
        control.command_kind, "std_msgs/msg/Float64MultiArray"
    )
    topics = [
        Recorded(
            control.joint_states_topic,
            "sensor_msgs/msg/JointState",
            replayed=True,
            sensor=True,
            rate_hz=control.rate_hz,
        ),
        Recorded(EXECUTED, "aloe_msgs/msg/ExecutedStep", replayed=True, rate_hz=control.rate_hz),
        Recorded(control.command_topic, command, replayed=True),
        Recorded(MODE, "aloe_msgs/msg/ControlMode", latched=True),
        Recorded(TASK, "aloe_msgs/msg/Task", latched=True),
        Recorded("checkpoint", "aloe_msgs/msg/Checkpoint", latched=True),
        Recorded("policy/action_chunk", "aloe_msgs/msg/ActionChunk", replayed=True),
        Recorded("policy/value", "aloe_msgs/msg/ValueEstimate"),
        Recorded("teleop/command", "aloe_msgs/msg/TeleopCommand", replayed=True),
        Recorded(contract.takeover.joy_topic, "sensor_msgs/msg/Joy"),
        Recorded("episode/event", "aloe_msgs/msg/EpisodeEvent", replayed=True),
        Recorded("sim/scene", "std_msgs/msg/String", latched=True),
    ]
    for camera in contract.cameras:
        images = f"{camera.topic}/image_raw/compressed"
        kind = "sensor_msgs/msg/CompressedImage"
        topics.append(Recorded(images, kind, replayed=True, sensor=True, rate_hz=camera.rate_hz))
        topics.append(Recorded(f"{camera.topic}/camera_info", "sensor_msgs/msg/CameraInfo", latched=True))
    return topics + [_parse(text) for text in extra if text]


def message_class(type_name: str) -> type:
    """Return the Python class of `package/msg/Type`; AloeError if its package is not installed."""
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise AloeError(f"Message type {type_name}: not installed in this environment.") from error


def _parse(text: str) -> Recorded:
    name, _, type_name = text.partition(":")
    if not name or len(type_name.split("/")) != 3:
        raise bad_value("Node episode_recorder: parameter", "topics", text, "name:package/msg/Type")
    return Recorded(name, type_name)

"""The checks of `./aloe doctor`, in the order they are shown. What may crash runs in a process of its own."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from aloe_cli.launch import packages
from aloe_core.errors import AloeError

SETUP = "Run `make setup`."
DISK_GB = 6.0  # the demo's bags, checkpoints and report
PATIENCE = 60.0  # s a check in its own process may take
EXECUTABLES = {
    "aloe_sim": ("sim_node", "scripted_human"),
    "aloe_policy": ("policy_node", "camera_node"),
    "aloe_teleop": ("arbiter_node", "joy_reader", "takeover_node", "episode_manager", "episode_recorder"),
    "aloe_critic": ("trainer_node",),
}


class Status(Enum):
    """What a check came to."""

    OK = "ok"
    OPTIONAL = "absent"  # the simulator loop works without it
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """`found` says what is there, `advice` what to do if something should be."""

    status: Status
    found: str
    advice: str = ""


def python() -> Finding:
    version = platform.python_version()
    if (3, 10) <= sys.version_info[:2] <= (3, 12):
        return Finding(Status.OK, f"{version} at {sys.executable}")
    return Finding(Status.MISSING, version, "Install Python 3.10, 3.11 or 3.12, then run `make setup`.")


def torch() -> Finding:
    code = "import torch; print(torch.__version__, 'CUDA' if torch.cuda.is_available() else 'CPU')"
    return _program(code, lambda out: out, SETUP)


def ros() -> Finding:
    code = (
        "import rclpy; from rclpy.utilities import get_rmw_implementation_identifier as rmw; rclpy.init();"
        "print(__import__('os').environ.get('ROS_DISTRO', '?'), rmw()); rclpy.shutdown()"
    )
    return _program(code, lambda out: out, SETUP)


def messages() -> Finding:
    code = "from aloe_msgs.msg import ActionChunk; from aloe_msgs.action import Train; ActionChunk(); Train.Goal()"
    return _program(code, lambda _: "aloe_msgs, built", "The interfaces are not built for this Python: " + SETUP)


def nodes() -> Finding:
    absent = []
    for package, names in EXECUTABLES.items():
        for name in names:
            try:
                packages.executable(package, name)
            except AloeError:
                absent.append(name)
    count = sum(len(names) for names in EXECUTABLES.values())
    if absent:
        return Finding(Status.MISSING, f"{count - len(absent)} of {count} executables, no {', '.join(absent)}", SETUP)
    return Finding(Status.OK, f"{count} executables installed")


def dds() -> Finding:
    """Send one latched message from one participant to another."""
    code = """
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Empty
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
contexts = [rclpy.Context() for _ in range(2)]
for context in contexts: rclpy.init(context=context)
writer, reader = (rclpy.create_node(f"doctor_{i}", context=c) for i, c in enumerate(contexts))
got = rclpy.Future()
reader.create_subscription(Empty, "doctor", lambda _: got.set_result(True), latched)
writer.create_publisher(Empty, "doctor", latched).publish(Empty())
executor = rclpy.executors.SingleThreadedExecutor(context=contexts[1])
executor.add_node(reader)
executor.spin_until_future_complete(got, timeout_sec=20)
assert got.done(), "no message arrived within 20 s"
print("messages pass between participants")
"""
    advice = "Allow UDP on localhost, and check ROS_DOMAIN_ID and FASTRTPS_DEFAULT_PROFILES_FILE."
    return _program(code, lambda out: out, advice)


def rendering() -> Finding:
    code = """
from aloe_sim import gl
import os, time, mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 2'/><geom size='.1'/></worldbody></mujoco>")
data = mujoco.MjData(model); mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 96, 96) as renderer:
    renderer.update_scene(data); renderer.render(); start = time.perf_counter()
    renderer.update_scene(data); image = renderer.render()
    assert image.max() > 0, "the rendered image is black"
print(f"{os.environ.get('MUJOCO_GL', 'default')}, {1e3 * (time.perf_counter() - start):.0f} ms for 96x96")
"""
    advice = "Install libegl1 or libosmesa6 (apt), or set MUJOCO_GL to egl, osmesa or glfw."
    return _program(code, lambda out: f"MuJoCo {importlib.metadata.version('mujoco')}, {out}", advice)


def disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free >= DISK_GB:
        return Finding(Status.OK, f"{free:.0f} GB free here")
    return Finding(Status.MISSING, f"{free:.1f} GB free here", f"The demo needs {DISK_GB:g} GB; free some space.")


def joystick() -> Finding:
    pads = sorted(str(path) for path in Path("/dev/input").glob("js*"))
    if pads:
        return Finding(Status.OK, ", ".join(pads))
    return Finding(Status.OPTIONAL, "no joystick", "Only a real robot needs one; the simulator has a scripted person.")


def ros2_launch() -> Finding:
    from aloe_cli.verbs.launch import has_ros2_launch

    if has_ros2_launch():
        return Finding(Status.OK, f"{shutil.which('ros2')}; ./aloe launch hands over to it")
    return Finding(Status.OPTIONAL, "no ros2 launch", "./aloe launch runs the launch files of this suite itself.")


def gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding(Status.OPTIONAL, "no NVIDIA GPU", f"Everything runs on the CPU ({os.cpu_count()} cores here).")
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0 and done.stdout.strip():
        return Finding(Status.OK, done.stdout.strip().splitlines()[0])
    return Finding(Status.OPTIONAL, "nvidia-smi finds no GPU", "Everything runs on the CPU.")


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": python,
    "torch": torch,
    "ros 2": ros,
    "messages": messages,
    "nodes": nodes,
    "dds": dds,
    "rendering": rendering,
    "disk": disk,
    "gpu": gpu,
    "joystick": joystick,
    "ros2 launch": ros2_launch,
}


def _program(code: str, found: Callable[[str], str], advice: str) -> Finding:
    """Run Python `code`; its output is what was found, its last error line what is wrong."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(Status.MISSING, f"no answer within {PATIENCE:.0f} s", advice)
    if done.returncode == 0:
        return Finding(Status.OK, found(done.stdout.strip()))
    lines = done.stderr.strip().splitlines()
    return Finding(Status.MISSING, lines[-1] if lines else f"exit code {done.returncode}", advice)

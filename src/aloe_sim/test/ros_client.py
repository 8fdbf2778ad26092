"""What the node tests share: a node in its own process, and a client that waits on events, never on time."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import rclpy
from aloe_core.contract import load_contract
from aloe_sim.nodes import privileged
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from aloe_msgs.srv import ResetStation
from aloe_ros import qos, stamps

ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "config/robots/aloha_sim.yaml"
DOMAIN = 1 + os.getpid() % 100


class NodeProcess:
    """A node of this package, run as a process under `namespace`; leaving the context interrupts it and checks it."""

    def __init__(self, module: str, namespace: str, log: Path, **parameters) -> None:
        self.log = log / f"{module.rpartition('.')[2]}.log"
        args = [sys.executable, "-m", module, "--ros-args", "-r", f"__ns:={namespace}"]
        for name, value in {"contract": str(CONTRACT), **parameters}.items():
            args += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                args, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)}
            )

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert code == 0, self.log.read_text()


class Client:
    """A node in the test process with an executor of its own."""

    def __init__(self, namespace: str) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self.node = Node("test_client", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def until(self, condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
        """Handle messages until `condition()`; AssertionError after `timeout` s of wall time."""
        end = monotonic() + timeout
        while not condition():
            left = end - monotonic()
            assert left > 0, f"waited {timeout} s for {what}"
            self._executor.spin_once(timeout_sec=min(left, 0.1))

    def call(self, client, request, timeout: float = 60.0):
        """Call a service and return its response."""
        self.until(client.service_is_ready, client.srv_name)
        future = client.call_async(request)
        self.until(future.done, client.srv_name, timeout)
        return future.result()


def fresh_namespace() -> str:
    """Return a namespace nobody else uses."""
    return f"/t{uuid.uuid4().hex[:12]}"


class Arbiter:
    """Answers joint states by hand and keeps what the simulator published, in order of arrival."""

    def __init__(self, client: Client) -> None:
        self.client, node = client, client.node
        self.contract = load_contract(CONTRACT)
        self.joints, self.states, self.clock = [], [], []
        self.images = {name: [] for name in self.contract.camera_names}
        self.commands = node.create_publisher(JointTrajectory, "command/joint_trajectory", qos.COMMAND)
        self.reset_client = node.create_client(ResetStation, "station/reset")
        node.create_subscription(JointState, "joint_states", self.joints.append, qos.joint_states_subscription(True))
        node.create_subscription(Float64MultiArray, "sim/state", self.states.append, privileged.QOS)
        node.create_subscription(Clock, "clock", self.clock.append, qos.DEFAULT)
        for name, seen in self.images.items():
            node.create_subscription(Image, f"cameras/{name}/image_raw", seen.append, qos.image_subscription(True))
        topics = ["joint_states", "sim/state", "clock", *(f"cameras/{c}/image_raw" for c in self.images)]
        client.until(
            lambda: self.commands.get_subscription_count() and all(node.count_publishers(t) for t in topics),
            "the simulator's topics",
        )

    def reset(self, seed: int, task: str = "sorting", level: str = "easy"):
        return self.client.call(self.reset_client, ResetStation.Request(task=task, level=level, seed=seed))

    def send(self, stamp: int, positions, names=None) -> None:
        msg = JointTrajectory(joint_names=list(names or self.contract.joint_names))
        msg.header.stamp = stamps.to_msg(stamp)
        msg.points = [JointTrajectoryPoint(positions=[float(p) for p in positions])]
        self.commands.publish(msg)

    def step(self, positions) -> None:
        """Answer the newest joint state and wait for the next one."""
        count = len(self.joints)
        self.send(self.stamp, positions)
        self.client.until(lambda: len(self.joints) > count, "the next joint state")

    def until_joints(self, count: int) -> None:
        self.client.until(lambda: len(self.joints) >= count, f"{count} joint states")

    @property
    def stamp(self) -> int:
        return stamps.to_ns(self.joints[-1].header.stamp)

"""The other side of the simulator in tests: a node in the test process that answers joint states by hand."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import rclpy
from aloe_msgs.srv import ResetStation
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from aloe_core.contract import load_contract
from aloe_ros import qos, stamps
from aloe_ros.testing import Spinner, node_process, stop
from aloe_sim.nodes import privileged

CONTRACT = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"
ROBOT = load_contract(CONTRACT)
PATIENCE = 60.0  # s; generous, since test machines may be busy


@contextmanager
def running(log: Path, *names: str, **parameters: object) -> Iterator[Node]:
    """Run nodes of this package as processes and yield a node of the test in the same fresh namespace.

    Leaving interrupts the processes, each of which must then end with exit code 0.
    """
    namespace = f"/t{uuid.uuid4().hex[:12]}"
    given = {"contract": CONTRACT, **parameters}
    with ExitStack() as stack:
        for name in names:
            output = log / f"{name}.log"
            process = stack.enter_context(
                node_process(f"aloe_sim.nodes.{name}", given, output, "-r", f"__ns:={namespace}")
            )
            stack.callback(_stop_cleanly, process, output)
        rclpy.init()
        stack.callback(rclpy.try_shutdown)
        node = Node("test_client", namespace=namespace)
        stack.callback(node.destroy_node)
        yield node


def _stop_cleanly(process, output: Path) -> None:
    assert stop(process, PATIENCE) == 0, output.read_text()


class Arbiter:
    """Answers joint states by hand and keeps what the simulator published, in order of arrival."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.spinner = Spinner(node)
        self.until, self.call = partial(self.spinner.until, timeout=PATIENCE), self.spinner.call
        self.joints, self.states, self.clock = [], [], []
        self.says = ""  # the simulator, in its diagnostics
        self.images = {name: [] for name in ROBOT.camera_names}
        self.commands = node.create_publisher(JointTrajectory, "command/joint_trajectory", qos.COMMAND)
        self.reset_client = node.create_client(ResetStation, "station/reset")
        node.create_subscription(JointState, "joint_states", self.joints.append, qos.joint_states_subscription(True))
        node.create_subscription(Float64MultiArray, "sim/state", self.states.append, privileged.QOS)
        node.create_subscription(Clock, "clock", self.clock.append, qos.DEFAULT)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.DEFAULT)
        for name, seen in self.images.items():
            node.create_subscription(Image, f"cameras/{name}/image_raw", seen.append, qos.image_subscription(True))
        topics = ["joint_states", "sim/state", "clock", *(f"cameras/{c}/image_raw" for c in self.images)]
        self.until(
            lambda: self.commands.get_subscription_count() and all(node.count_publishers(t) for t in topics),
            "the simulator's topics are there",
        )

    def reset(self, seed: int, task: str = "sorting", level: str = "easy"):
        request = ResetStation.Request(task=task, level=level, seed=seed)
        return self.call(self.reset_client, request, timeout=PATIENCE)  # the first one builds the station

    def send(self, stamp: int, positions, names=None) -> None:
        msg = JointTrajectory(joint_names=list(names or ROBOT.joint_names))
        msg.header.stamp = stamps.to_msg(stamp)
        msg.points = [JointTrajectoryPoint(positions=[float(p) for p in positions])]
        self.commands.publish(msg)

    def step(self, positions) -> None:
        """Answer the newest joint state and wait for the next one."""
        count = len(self.joints)
        self.send(self.stamp, positions)
        self.until_joints(count + 1)

    def waits_for_a_person_after(self, positions) -> bool:
        """Answer the newest joint state; whether the simulator then says that it waits, and does."""
        count, self.says = len(self.joints), ""
        self.send(self.stamp, positions)
        self.until(lambda: "the person who watches" in self.says or len(self.joints) > count, "a step or a wait")
        return len(self.joints) == count

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        name = f"{self.node.get_namespace()}/sim_node"
        self.says = next((status.message for status in msg.status if status.name == name), self.says)

    def until_joints(self, count: int) -> None:
        self.until(lambda: len(self.joints) >= count, f"joint state {count}")

    @property
    def stamp(self) -> int:
        return stamps.to_ns(self.joints[-1].header.stamp)

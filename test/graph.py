"""The graph of launch/sim.launch.xml as real processes, driven by a test as an operator would."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import rclpy
from action_msgs.msg import GoalStatus
from aloe_msgs.action import RunEpisodes
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from aloe_core.contract import RobotContract, load_contract
from aloe_ros.probe import Probe
from aloe_ros.testing import Spinner, stop

ROOT = Path(__file__).parents[1]
CONTRACT = ROOT / "config/robots/aloha_sim.yaml"
LAUNCH = ROOT / "launch/sim.launch.xml"
DEMONSTRATED, AUTONOMOUS, SUPERVISED = 11, 12, 13  # seeds
LIMIT = 2.0  # s of the autonomous episode


def robot() -> RobotContract:
    """Return the contract of the simulated robot."""
    return load_contract(CONTRACT)


class Graph:
    """`./aloe launch launch/sim.launch.xml` in a namespace and domain of its own, and a node of the test in there."""

    def __init__(self, folder: Path, **arguments: object) -> None:
        """`folder` takes bags, checkpoints and log; `arguments` go to the launch file."""
        self.bags = folder / "bags"
        self.log = folder / "graph.log"
        namespace = f"/t{uuid.uuid4().hex[:12]}"
        given = {
            "namespace": namespace,
            "contract": CONTRACT,
            "bag_dir": self.bags,
            "checkpoint_dir": folder / "checkpoints",
            "trainer": "false",
            **arguments,
        }
        command = [sys.executable, "-m", "aloe_cli", "launch", "--built-in", str(LAUNCH)]
        with self.log.open("w") as output:
            self._process = subprocess.Popen(
                command + [f"{name}:={value}" for name, value in given.items()],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "ROS_LOG_DIR": str(folder / "log")},
            )
        rclpy.init()
        self.node = Node("test_operator", namespace=namespace)
        self._spinner = Spinner(self.node)
        self._episodes = ActionClient(self.node, RunEpisodes, "episodes/run")
        self._probe = Probe(self.node, "episodes/run/_action/send_goal")

    def until(self, condition, what: str, timeout: float = 60.0) -> None:
        """Handle messages until `condition()`; AssertionError with the log if the graph ends or time runs out."""

        def holds() -> bool:
            assert self._process.poll() is None, f"the graph ended:\n{self._tail()}"
            return bool(condition())

        try:
            self._spinner.until(holds, what, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._tail()}") from error

    def begin(self, supervision: str, seeds: list[int], time_limit: float = 0.0) -> Future:
        """Start one episode a seed and return the future of the answer."""
        self.until(self._episodes.server_is_ready, "episodes/run is there")
        self.until(self._probe.done, "episode_manager knows us")
        goal = RunEpisodes.Goal(
            task="sorting", level="easy", seeds=seeds, supervision=supervision, time_limit=time_limit
        )
        sent = self._episodes.send_goal_async(goal)
        self.until(sent.done, "the goal is taken")
        return sent.result().get_result_async()

    def run(self, supervision: str, seeds: list[int], time_limit: float = 0.0) -> RunEpisodes.Result:
        """Run one episode a seed and return the result, which must be a success."""
        result = self.begin(supervision, seeds, time_limit)
        self.until(result.done, f"episodes {seeds} are done", timeout=240.0)
        answer = result.result()
        assert answer.status == GoalStatus.STATUS_SUCCEEDED, f"{answer.result.message}\n{self._tail()}"
        return answer.result

    def call(self, client, request):
        """Call a service and return its response."""
        return self._spinner.call(client, request, timeout=60.0)

    @property
    def pid(self) -> int:
        """Process id of the launch runner; the nodes are its children."""
        return self._process.pid

    def close(self) -> int:
        """Interrupt the launch and return its exit code."""
        self._spinner.close()
        self.node.destroy_node()
        rclpy.try_shutdown()
        return stop(self._process, timeout=40.0)

    def _tail(self) -> str:
        return self.log.read_text()[-4000:]

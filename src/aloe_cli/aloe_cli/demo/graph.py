"""The launched graph, seen from outside: start it, ask it for episodes and training, stop it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from action_msgs.msg import GoalStatus
from aloe_msgs.action import RunEpisodes, Train
from aloe_msgs.msg import EpisodeEvent
from aloe_msgs.srv import LoadCheckpoint
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future

from aloe_cli.errors import AloeFailure
from aloe_ros.probe import Probe

STARTUP = 60.0  # s until every service of the graph must answer


@dataclass(frozen=True)
class Episodes:
    """What a batch of episodes came to, one entry an episode."""

    outcomes: list[int]
    paths: list[str]
    lengths: list[float]  # s
    human_steps: list[int]
    steps: list[int]

    @property
    def successes(self) -> int:
        return self.outcomes.count(EpisodeEvent.OUTCOME_SUCCESS)

    @property
    def success_rate(self) -> float:
        return self.successes / max(1, len(self.outcomes))

    @property
    def intervention_rate(self) -> float:
        """Share of control steps commanded by the person."""
        return sum(self.human_steps) / max(1, sum(self.steps))


class Graph:
    """Context manager around `./aloe launch` and a client node in this process."""

    def __init__(self, launch_file: Path, arguments: dict[str, str], log: Path) -> None:
        self._command = [sys.executable, "-m", "aloe_cli", "launch", str(launch_file)]
        self._command += [f"{key}:={value}" for key, value in arguments.items()]
        self._log = log

    def __enter__(self) -> Graph:
        self._output = self._log.open("w")
        self._process = subprocess.Popen(self._command, stdout=self._output, stderr=subprocess.STDOUT)
        rclpy.init()
        self._node = rclpy.create_node("aloe_demo")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._episodes = ActionClient(self._node, RunEpisodes, "episodes/run")
        self._train = ActionClient(self._node, Train, "trainer/train")
        self._load = self._node.create_client(LoadCheckpoint, "policy/load_checkpoint")
        try:
            self._wait_for_servers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._node.destroy_node()
            rclpy.try_shutdown()
            self._output.close()

    def run_episodes(
        self,
        plan_task: str,
        level: str,
        seeds: list[int],
        supervision: str,
        folder: Path,
        feedback: Callable[[int, int], None],
    ) -> Episodes:
        """Run one episode a seed; `feedback(done, successes)`. AloeFailure if the batch did not finish."""
        goal = RunEpisodes.Goal(task=plan_task, level=level, seeds=seeds, supervision=supervision, folder=str(folder))
        result = self._act(self._episodes, goal, lambda f: feedback(f.done, f.successes), "episodes")
        return Episodes(
            list(result.outcomes),
            list(result.paths),
            list(result.lengths),
            list(result.intervention_steps),
            list(result.steps),
        )

    def train(
        self,
        method: str,
        bag_dirs: list[Path],
        overrides: dict[str, object],
        feedback: Callable[[str, int, int], None],
    ) -> Any:
        """Run one training iteration; returns the Train result. AloeFailure if no checkpoint came out."""
        goal = Train.Goal(method=method, bag_dirs=[str(d) for d in bag_dirs], overrides_json=json.dumps(overrides))
        return self._act(self._train, goal, lambda f: feedback(f.phase, f.step, f.steps_total), f"training ({method})")

    def load(self, uri: str) -> str:
        """Wait until the policy node drives with the checkpoint at `uri`; returns its version."""
        answer = self._wait(self._load.call_async(LoadCheckpoint.Request(uri=uri)), "loading the checkpoint")
        if not answer.success:
            raise AloeFailure(f"The policy node refused {uri}: {answer.message}")
        return str(answer.version)

    def _act(self, client: ActionClient, goal: Any, feedback: Callable[[Any], None], what: str) -> Any:
        handle = self._wait(client.send_goal_async(goal, lambda m: feedback(m.feedback)), what)
        if not handle.accepted:
            raise AloeFailure(f"The graph refused to start {what}; see {self._log}.")
        answer = self._wait(handle.get_result_async(), what)
        if answer.status != GoalStatus.STATUS_SUCCEEDED or not answer.result.success:
            raise AloeFailure(f"The graph could not finish {what}: {answer.result.message} (log: {self._log})")
        return answer.result

    def _wait(self, future: Future, what: str) -> Any:
        while not future.done():
            self._executor.spin_until_future_complete(future, timeout_sec=0.5)
            self._check_alive(what)
        return future.result()

    def _wait_for_servers(self) -> None:
        deadline = time.monotonic() + STARTUP
        waiting = {
            "episodes/run": self._episodes.wait_for_server,
            "trainer/train": self._train.wait_for_server,
            "policy/load_checkpoint": self._load.wait_for_service,
        }
        for name, wait in waiting.items():
            while not wait(timeout_sec=0.5):
                self._check_alive(name)
                if time.monotonic() > deadline:
                    raise AloeFailure(f"{name} did not come up within {STARTUP:.0f} s; see {self._log}.")
        # Only now: what is proven holds for the clients made before.
        actions = [f"{name}/_action/send_goal" for name in ("episodes/run", "trainer/train")]
        for probe in [Probe(self._node, service) for service in (*actions, "policy/load_checkpoint")]:
            while not probe.done():
                self._executor.spin_once(timeout_sec=0.1)
                self._check_alive("start")
                if time.monotonic() > deadline:
                    raise AloeFailure(f"The graph does not answer after {STARTUP:.0f} s; see {self._log}.")

    def _check_alive(self, what: str) -> None:
        code = self._process.poll()
        if code is not None:
            raise AloeFailure(f"The graph ended (code {code}) during {what}; see {self._log}.")

"""The robot's graph as processes, whose ids are known: launch/robot.launch.xml with the simulated robot beside it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from aloe_cli import paths
from aloe_ros.testing import stop

_SIMULATED_TIME = ("camera_node", "policy_node", "episode_manager", "episode_recorder")
_STARTED = re.compile(r"\[(\w+)-?\d*\]: process started with pid \[(\d+)\]")
_WORSE = re.compile(r"\b(WARN|WARNING|ERROR|FATAL)\b")


class Processes:
    """Everything that runs on the robot, started with the block and ended with it; `prefix` runs the policy elsewhere.

    Arbiter and takeover run on the wall clock, as on a robot; the others take the time of the simulated robot.
    """

    def __init__(self, folder: Path, contract: Path, policy_prefix: list[str] | None = None) -> None:
        self.log = folder / "graph.log"
        self._folder = folder
        self._contract = contract
        self._prefix = policy_prefix
        self._others: list[subprocess.Popen] = []

    def __enter__(self) -> Processes:
        params = self._folder / "params.yaml"
        given: dict[str, dict] = {f"/**/{name}": {"use_sim_time": True} for name in _SIMULATED_TIME}
        given["/**/episode_recorder"] |= {"min_free_mb": 0, "take_mb": 0}  # the disk is filled to the last byte
        params.write_text(yaml.dump({node: {"ros__parameters": values} for node, values in given.items()}))
        checkpoints = self._folder / "checkpoints"
        arguments = {
            "contract": self._contract,
            "params": params,
            "bag_dir": self._folder / "bags",
            "checkpoint_dir": checkpoints,
            "candidates": 1,
            "joy": "false",
            "policy": str(self._prefix is None).lower(),
        }
        launch = [
            sys.executable,
            "-m",
            "aloe_cli",
            "launch",
            "--built-in",
            str(paths.resource("launch/robot.launch.xml")),
        ]
        self._output = self.log.open("wb")
        self.runner = self._start(launch + [f"{name}:={value}" for name, value in arguments.items()])
        self._node("aloe_sim.nodes.sim_node", [], {"lockstep": "false", "real_time_factor": 1.0})
        if self._prefix is not None:
            given_there = {"checkpoint_dir": checkpoints, "candidates": 1, "lockstep": "false", "use_sim_time": "true"}
            self._node("aloe_policy.nodes.policy_node", self._prefix, given_there)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.runner, *self._others):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        stop(self.runner, timeout=40.0)
        for process in self._others:
            stop(process)
        self._output.close()

    def pid(self, node: str) -> int:
        """Return the id of the process that runs `node` now: the last one that was started."""
        started = [int(pid) for name, pid in _STARTED.findall(self.log.read_text(errors="replace")) if name == node]
        return started[-1]

    def worries(self, since: int) -> list[str]:
        """Return the warnings and errors that were logged after byte `since`."""
        with self.log.open("rb") as log:
            log.seek(since)
            return [line for line in log.read().decode(errors="replace").splitlines() if _WORSE.search(line)]

    def _node(self, module: str, prefix: list[str], parameters: dict[str, object]) -> None:
        words = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
        command = [*prefix, sys.executable, "-m", module, "--ros-args", "-p", f"contract:={self._contract}", *words]
        self._others.append(self._start(command))

    def _start(self, command: list[str]) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ROS_LOG_DIR": str(self._folder / "log")}
        return subprocess.Popen(command, stdout=self._output, stderr=subprocess.STDOUT, env=environment)

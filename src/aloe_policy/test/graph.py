"""Real processes and real DDS for the node tests: a domain of its own, waits on events."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import rclpy
import yaml
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

HERE = Path(__file__).parent
TIMEOUT = 30.0  # s; only a failing test waits that long


class Peer:
    """The test's own node, spun in a thread; whatever arrives wakes `until`."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node("test_peer", context=self.context)
        self._changed = threading.Condition()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass

    def listen(self, kind: type, topic: str, profile: object) -> list:
        """Return the list that fills with the messages of `topic`."""
        got: list = []

        def take(msg: object) -> None:
            with self._changed:
                got.append(msg)
                self._changed.notify_all()

        self.node.create_subscription(kind, topic, take, profile)
        return got

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` holds; the graph's changes and every message re-examine it."""
        deadline = time.monotonic() + TIMEOUT
        with self._changed:
            while not condition():
                assert time.monotonic() < deadline, f"timed out waiting for {what}"
                self._changed.wait(0.02)  # the graph has no event a test could wait on

    def publisher(self, kind: type, topic: str, profile: object):
        """Return a publisher that has been matched by a subscriber."""
        publisher = self.node.create_publisher(kind, topic, profile)
        self.until(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {topic}")
        return publisher

    def call(self, kind: type, name: str, **fields: object):
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"service {name}")
        future = client.call_async(kind.Request(**fields))
        self.until(future.done, f"the answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        self.context.try_shutdown()
        self._thread.join(10)
        self.node.destroy_node()


class NodeProcess:
    """A node in a process of its own."""

    def __init__(self, target: list[str], domain: int, folder: Path, parameters: dict[str, object]) -> None:
        file = folder / f"parameters_{target[-1].replace('/', '_')}.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
        self._log = folder / f"{file.stem}.log"
        environment = os.environ | {
            "ROS_DOMAIN_ID": str(domain),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        }
        with open(self._log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *target, "--ros-args", "--params-file", str(file)],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        """SIGINT as Ctrl-C does; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"node did not stop on SIGINT:\n{self.log}") from None

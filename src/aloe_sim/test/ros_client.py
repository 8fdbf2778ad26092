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
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

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

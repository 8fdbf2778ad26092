"""Real processes and real DDS in tests: start nodes, wait for endpoints and events, never sleep."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from aloe_ros.probe import Probe


@contextmanager
def node_process(
    module: str, parameters: Mapping[str, object], log: Path, *arguments: str
) -> Iterator[subprocess.Popen]:
    """Run `python -m module` with ROS parameters while the block lasts; output goes to `log`."""
    given = [part for key, value in parameters.items() for part in ("-p", f"{key}:={_text(value)}")]
    command = [sys.executable, "-m", module, "--ros-args", *given, *arguments]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen, timeout: float = 10.0) -> int:
    """Interrupt a node, kill it if it stays, and return its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Spinner:
    """Spins nodes of the test itself until something is true."""

    def __init__(self, *nodes: Node) -> None:
        self.executor = SingleThreadedExecutor()
        self._node = nodes[0]
        self._known: set = set()  # clients whose server knows them
        for node in nodes:
            self.executor.add_node(node)

    def until(self, condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
        """Spin until `condition()` holds; AssertionError says `what` did not happen within `timeout` s."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"not within {timeout} s: {what}"
            self.executor.spin_once(timeout_sec=min(left, 0.05))

    def call(self, client, request, timeout: float = 20.0):
        """Call a service and return its response."""
        self.until(client.service_is_ready, f"service {client.srv_name} is there", timeout)
        if client not in self._known:
            self.until(Probe(self._node, client.srv_name).done, f"the node of {client.srv_name} knows us", timeout)
            self._known.add(client)
        future = client.call_async(request)
        self.until(future.done, f"service {client.srv_name} answers", timeout)
        return future.result()

    def close(self) -> None:
        self.executor.shutdown()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

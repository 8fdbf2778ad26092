"""policy_node's policy server, if a parameter names one."""

from __future__ import annotations

import os
from collections.abc import Callable

from rclpy.node import Node

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_policy.remote.mapping import Mapping, load_mapping
from aloe_policy.remote.runtime import RemoteOptions, RemoteRuntime
from aloe_policy.swap import CheckpointSwapper
from aloe_ros.parameters import declare

API_KEY = "ALOE_REMOTE_API_KEY"  # an environment variable: parameters can be read by everybody


class ServerIntake:
    """Hands the policy behind a server to the swapper when it first answers; says what is wrong when it does not."""

    def __init__(self, node: Node, contract: RobotContract, candidates: int, chunking: str) -> None:
        """Declare the parameters; AloeError if they or the mapping make no sense."""
        url = declare(node, "remote_url", "", "Policy server, ws://host:port, to drive in place of a checkpoint.")
        path = declare(node, "remote_mapping", "", "Its names and layout (YAML); empty for those of this suite.")
        timeout = declare(node, "remote_timeout", 1.0, "Time for one answer of the server, s.", low=0.01, high=60.0)
        warm_up = declare(node, "remote_warm_up", 120.0, "Time for its first answer, s.", low=0.01, high=3600.0)
        self._node, self._contract = node, contract
        self.runtime: RemoteRuntime | None = None
        self._mapping: Mapping | None = load_mapping(path, contract) if url and path else None
        self._options: RemoteOptions | None = None
        if url:
            key = os.environ.get(API_KEY, "")
            self._options = RemoteOptions(url, timeout, warm_up, candidates, chunking, key)
        elif path:
            raise AloeError(f"Node {node.get_name()}: parameter remote_mapping needs remote_url.")

    @property
    def wanted(self) -> bool:
        return self._options is not None

    def start(
        self, swapper: CheckpointSwapper, swapped: Callable[[], None], crashed: Callable[[Exception], None]
    ) -> None:
        """Connect in the background, if a server is wanted; `swapped` is called whenever it can be asked."""
        if self._options is None:
            return
        log = self._node.get_logger()
        runtime = RemoteRuntime(
            self._options, self._contract, self._mapping, lambda: self._changed(runtime, swapper, swapped), crashed
        )
        self.runtime = runtime
        swapper.wait_for(self._options.url)
        log.info(f"Connecting to policy server {self._options.url}.")
        runtime.start()

    def close(self) -> None:
        if self.runtime is not None:
            self.runtime.close()
            self.runtime = None

    def _changed(self, runtime: RemoteRuntime, swapper: CheckpointSwapper, swapped: Callable[[], None]) -> None:
        """Threads of the link and of inference: the connection is there, or why it is not has changed."""
        assert self._options is not None
        if runtime.problem is not None:
            self._node.get_logger().error(runtime.problem)
            return
        swapper.adopt(runtime)
        self._node.get_logger().info(f"Policy server {self._options.url} answers: policy {runtime.version}.")
        swapped()

"""The ways a checkpoint reaches the policy node: LATEST at the start, announcements, services."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aloe_msgs.msg import Checkpoint
from aloe_msgs.srv import LoadCheckpoint, RollbackCheckpoint
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from aloe_core.checkpoint import MANIFEST, latest
from aloe_core.errors import AloeError
from aloe_policy.swap import CheckpointSwapper, Loaded
from aloe_policy.worker import NewestWins
from aloe_ros import qos


class CheckpointIntake:
    """Feeds a CheckpointSwapper; `swapped()` is called from a loading thread or the executor after every change.

    Nothing here blocks the executor: announcements load in one thread, of which the newest wins, and every service
    call in a thread of its own.
    """

    def __init__(self, node: Node, swapper: CheckpointSwapper, swapped: Callable[[], None], crashed) -> None:
        self.refusal: str | None = None  # why the last one offered was refused
        self._node, self._swapper, self._on_swapped = node, swapper, swapped
        self._worker: NewestWins[Checkpoint] = NewestWins("loading", self._load_announced, crashed)
        self._subscription = node.create_subscription(Checkpoint, "checkpoint", self._worker.submit, qos.LATCHED)
        group = MutuallyExclusiveCallbackGroup()  # a service waits for its load while the rest goes on
        serve = partial(node.create_service, callback_group=group)
        self._services = (
            serve(LoadCheckpoint, "policy/load_checkpoint", self._on_load),
            serve(RollbackCheckpoint, "policy/rollback_checkpoint", self._on_rollback),
        )

    def load_initial(self, folder: str) -> None:
        """Load LATEST of `folder` in the background, or `folder` itself, pinned, if it is a checkpoint.

        Without either wait for an announcement. AloeError if `folder` is a checkpoint that is refused.
        """
        if folder and (Path(folder) / MANIFEST).is_file():
            self._swapped(self._swapper.load(folder, pin=True))
            return
        directory = latest(folder) if folder else None
        if directory is None:
            self._node.get_logger().warning(f"No checkpoint in {folder!r}: waiting for one to be announced or loaded.")
        else:
            self._worker.submit(Checkpoint(uri=str(directory), version=directory.name))

    def close(self) -> None:
        """Take no more; a load that has begun is finished."""
        self._worker.close()
        self._node.destroy_subscription(self._subscription)
        for service in self._services:
            self._node.destroy_service(service)

    def _load_announced(self, msg: Checkpoint) -> None:
        try:
            self._swapped(self._swapper.announce(msg.uri, msg.sha256, msg.version))
        except AloeError as error:
            self._refuse(error)

    async def _on_load(self, request: LoadCheckpoint.Request, response: LoadCheckpoint.Response):
        try:
            loaded = await self._aside(lambda: self._swapper.load(request.uri, request.sha256, request.pin))
        except AloeError as error:
            self._refuse(error)
            response.message = str(error)
            return response
        self._swapped(loaded)
        response.success, response.version = True, loaded.version
        response.message = f"Loaded {loaded.version}{', pinned' if request.pin else ''}."
        return response

    async def _on_rollback(self, _, response: RollbackCheckpoint.Response):
        try:
            loaded = await self._aside(self._swapper.rollback)
        except AloeError as error:
            response.message = str(error)
            return response
        self._swapped(loaded)
        response.success, response.version = True, loaded.version
        response.message = f"Rolled back to {loaded.version}."
        return response

    def _aside(self, job: Callable[[], Loaded]) -> Future:
        """Run `job` in a thread of its own and return its future."""
        future = Future(executor=self._node.executor)
        future.add_done_callback(lambda _: None)  # without one the executor is not woken when the job is done

        def work() -> None:
            try:
                future.set_result(job())
            except Exception as error:  # noqa: BLE001  the service that waits decides
                future.set_exception(error)

        threading.Thread(target=work, name="loading-on-request", daemon=True).start()
        return future

    def _swapped(self, loaded: Loaded) -> None:
        self.refusal = None
        self._node.get_logger().info(
            f"Policy {loaded.version} drives from the next chunk on ({loaded.latency * 1e3:.0f} ms a chunk)."
        )
        self._on_swapped()

    def _refuse(self, error: AloeError) -> None:
        self.refusal = str(error)
        kept = self._swapper.current.version if self._swapper.current else "none"
        self._node.get_logger().error(f"Checkpoint refused, policy {kept} goes on: {error}")

"""The ways a checkpoint reaches the policy node: LATEST at the start, announcements, services."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aloe_msgs.msg import Checkpoint
from aloe_msgs.srv import LoadCheckpoint, RollbackCheckpoint
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from rclpy.timer import Timer

from aloe_core.checkpoint import MANIFEST, latest
from aloe_core.errors import AloeError
from aloe_policy.checkpoint_cache import CheckpointCache, Stopped
from aloe_policy.swap import CheckpointSwapper, Loaded
from aloe_policy.urls import Unreachable, is_url, remote_latest, shown
from aloe_policy.worker import NewestWins
from aloe_ros import qos
from aloe_ros.deferred import answer_later

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0  # s between attempts to reach a server


class CheckpointIntake:
    """Feeds a CheckpointSwapper; `swapped()` is called from a loading thread or the executor after every change.

    Nothing here blocks the executor: announcements load in one thread, of which the newest wins, and every service
    call in a thread of its own. What comes from a URL is downloaded into the cache first; an announced one is asked for
    until it is here or a newer one is announced.
    """

    def __init__(
        self, node: Node, swapper: CheckpointSwapper, cache: CheckpointCache, swapped: Callable[[], None], crashed
    ) -> None:
        self.refusal: str | None = None  # why the last one offered was refused, or is not here yet
        self._node, self._swapper, self._cache, self._on_swapped = node, swapper, cache, swapped
        self._worker: NewestWins[Callable[[], None]] = NewestWins("loading", self._try, crashed)
        self._closed = False
        self._timer: Timer | None = None
        self._latest: str | None = None  # what LATEST of the folder at a URL said when it was looked at last
        self._subscription = node.create_subscription(
            Checkpoint, "checkpoint", lambda msg: self._worker.submit(partial(self._announced, msg)), qos.LATCHED
        )
        group = MutuallyExclusiveCallbackGroup()  # a service waits for its load while the rest goes on
        serve = partial(node.create_service, callback_group=group)
        self._services = (
            answer_later(node, serve(LoadCheckpoint, "policy/load_checkpoint", self._on_load), crashed),
            answer_later(node, serve(RollbackCheckpoint, "policy/rollback_checkpoint", self._on_rollback), crashed),
        )

    @property
    def fetching(self) -> str:
        """What is being downloaded, and how far it is."""
        return self._cache.progress

    def load_initial(self, folder: str, poll: float = 0.0) -> None:
        """Load LATEST of `folder` in the background, or `folder` itself, pinned, if it is a checkpoint.

        Without either wait for an announcement. A folder at a URL is looked at again every `poll` seconds (0: never).
        AloeError if `folder` is a checkpoint on this machine that is refused.
        """
        if is_url(folder):
            self._worker.submit(partial(self._initial, folder))
            if poll:
                look = partial(self._worker.submit_if_idle, partial(self._look, folder))
                self._timer = self._node.create_timer(poll, look, clock=Clock(clock_type=ClockType.STEADY_TIME))
            return
        if folder and (Path(folder) / MANIFEST).is_file():
            self._swapped(self._swapper.load(folder, pin=True))
            return
        directory = latest(folder) if folder else None
        if directory is None:
            self._node.get_logger().warning(f"No checkpoint in {folder!r}: waiting for one to be announced or loaded.")
        else:
            self._worker.submit(partial(self._announced, Checkpoint(uri=str(directory), version=directory.name)))

    def close(self) -> None:
        """Take no more; a load that has begun is finished, a download is given up."""
        self._closed = True
        self._worker.close()
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)
        for service in self._services:
            self._node.destroy_service(service)

    def _try(self, job: Callable[[], None]) -> None:
        """Loading thread: do a job; while its server is away, again and again until a newer job comes."""
        wait = _FIRST_WAIT
        while True:
            try:
                job()
                return
            except Unreachable as error:
                self._refuse(error, "not here yet", f" Tried again in {wait:g} s.")
            except AloeError as error:
                self._refuse(error)
                return
            if self._worker.wait(wait):
                return
            wait = min(2 * wait, _LONGEST_WAIT)

    def _announced(self, msg: Checkpoint) -> None:
        self.refusal = None
        if self._swapper.wants(msg.version):
            uri = self._local(msg.uri, msg.sha256, lambda: self._worker.superseded)
            self._swapped(self._swapper.announce(uri, msg.sha256, msg.version))

    def _initial(self, url: str) -> None:
        self._latest = remote_latest(url)
        if self._latest is not None:
            self._announced(Checkpoint(uri=f"{url.rstrip('/')}/{self._latest}", version=self._latest))
        elif self._swapper.current is None:
            uri = self._local(url, "", lambda: self._worker.superseded)
            self._swapped(self._swapper.load(uri, pin=True))

    def _look(self, url: str) -> None:
        """Load what LATEST names if that is not what it named before; a version that was refused is not tried again."""
        version, before = remote_latest(url), self._latest
        if version in (None, before):
            return
        self._latest = version
        try:
            self._announced(Checkpoint(uri=f"{url.rstrip('/')}/{version}", version=version))
        except Unreachable:
            self._latest = before
            raise

    def _local(self, uri: str, sha256: str, stopped: Stopped) -> str:
        """Return where the checkpoint is on this machine, downloaded if need be."""
        if not is_url(uri):
            return uri
        self._node.get_logger().info(f"Fetching checkpoint {shown(uri)}.")
        return str(self._cache.fetch(uri, sha256, stopped))

    async def _on_load(self, request: LoadCheckpoint.Request, response: LoadCheckpoint.Response):
        def load() -> Loaded:
            uri = self._local(request.uri, request.sha256, lambda: self._closed)
            return self._swapper.load(uri, request.sha256, request.pin)

        try:
            loaded = await self._aside(load)
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
        if loaded.directory.parent != self._cache.root:
            return
        try:
            self._cache.prune(self._swapper.directories)
        except AloeError as error:
            self._node.get_logger().warning(str(error))

    def _refuse(self, error: AloeError, what: str = "refused", then: str = "") -> None:
        self.refusal = f"checkpoint {what}: {error}{then}"
        kept = self._swapper.current.version if self._swapper.current else "none"
        self._node.get_logger().error(f"Checkpoint {what}, policy {kept} goes on: {error}{then}")

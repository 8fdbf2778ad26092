"""Waiting inside a coroutine of a single-threaded executor, bounded by wall time."""

import time
from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

from aloe_core.errors import AloeError
from aloe_ros.probe import Probe

_DISCOVERY = 10.0  # s; a node that is up is found well within it


class Waiter:
    """`until` resumes when `notify` is called after something changed; time-outs are looked at ten times a second."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._known: set = set()  # clients whose server knows them
        self._waiting: list[Future] = []
        self._timer = node.create_timer(0.1, self.notify, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def notify(self) -> None:
        """Let every waiting coroutine look at its condition again."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)

    async def until(self, condition: Callable[[], object], timeout: float | None = None) -> bool:
        """Return True once `condition()` holds, False after `timeout` s."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            future = Future()
            self._waiting.append(future)
            await future
        return True

    async def call(self, client, request, timeout: float):
        """Return the response of a service; AloeError if nobody offers it or it does not answer in `timeout` s."""
        discovery = min(timeout, _DISCOVERY)
        if not await self.until(client.service_is_ready, discovery):
            raise AloeError(f"Service {client.srv_name}: nobody offers it after {discovery:g} s; is its node running?")
        if client not in self._known:
            if not await self.until(Probe(self._node, client.srv_name).done, timeout):
                raise AloeError(f"Service {client.srv_name}: its node does not answer after {timeout:g} s.")
            self._known.add(client)
        future = client.call_async(request)
        future.add_done_callback(lambda _: self.notify())
        if not await self.until(future.done, timeout):
            client.remove_pending_request(future)
            raise AloeError(f"Service {client.srv_name}: no answer after {timeout:g} s.")
        return future.result()

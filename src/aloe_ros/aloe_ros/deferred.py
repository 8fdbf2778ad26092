"""Services that answer later, for executors that take what a callback returns for the answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from rclpy.node import Node
from rclpy.service import Service


def answer_later(node: Node, service: Service, crashed: Callable[[Exception], None]) -> Service:
    """Let the callback of `service` be a coroutine, whichever executor spins `node`, and return the service.

    What it raises is handed to `crashed`, since rclpy's EventsExecutor dies of a task that raises (rclpy #1641).
    """
    send = service.send_response

    async def finish(answer: Coroutine[Any, Any, Any], header: Any) -> None:
        try:
            send(await answer, header)
        except Exception as error:  # noqa: BLE001  a defect: the owner ends with it
            crashed(error)

    def send_when_done(response: Any, header: Any) -> None:
        if inspect.iscoroutine(response):
            assert node.executor is not None
            node.executor.create_task(finish(response, header))
        else:
            send(response, header)

    service.send_response = send_when_done
    return service

"""Serves a policy over the openpi websocket protocol, one inference at a time, however many clients there are."""

from __future__ import annotations

import http
import logging
import threading
import time
import traceback
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from aloe_core.errors import AloeError
from aloe_policy.remote import wire
from aloe_policy.remote.offer import ServerOffer

log = logging.getLogger("aloe.policy_server")


class PolicyService(Protocol):
    """A policy as the server sees it."""

    offer: ServerOffer

    def answer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Return at least `actions`, float32 [H, A]; AloeError if the observation does not fit."""
        ...


class PolicyServer:
    """As openpi's server: metadata first; then an answer for each observation, or the error as text and the end.

    `GET /healthz` says OK. `port` 0 takes any that is free.
    """

    def __init__(self, service: PolicyService, host: str = "127.0.0.1", port: int = 8000) -> None:
        self._service = service
        self._lock = threading.Lock()  # one inference at a time
        self._open: set[ServerConnection] = set()
        try:
            self._server: Server = serve(
                self._serve, host, port, compression=None, max_size=wire.MAX_BYTES, process_request=_health
            )
        except OSError as error:
            raise AloeError(f"policy-server: cannot listen on {host}:{port} ({error.strerror or error}).") from error
        self.host, self.port = self._server.socket.getsockname()[:2]

    def serve_forever(self) -> None:
        """Serve until `shutdown`, which another thread calls."""
        self._server.serve_forever()

    def shutdown(self) -> None:
        """Take no more requests; what has begun is finished, but no longer sent."""
        self._server.shutdown()
        for connection in list(self._open):  # websockets below 17, all that Python 3.10 gets, leaves them open
            connection.close(CloseCode.GOING_AWAY)

    def _serve(self, connection: ServerConnection) -> None:
        host, port = connection.remote_address[:2]
        client = f"{host}:{port}"
        log.info("%s connected", client)
        self._open.add(connection)
        try:
            connection.send(wire.pack(self._service.offer.as_metadata()))
            before: float | None = None
            for data in connection:
                start = time.perf_counter()
                connection.send(self._answer(data, before))
                before = time.perf_counter() - start
        except ConnectionClosed:
            pass
        except AloeError as error:
            _report(connection, client, str(error), str(error))
        except Exception as error:  # noqa: BLE001  one client's defect must not end the server of the others
            _report(connection, client, traceback.format_exc(), f"{type(error).__name__}: {error}")
        finally:
            self._open.discard(connection)
        log.info("%s disconnected", client)

    def _answer(self, data: bytes | str, before: float | None) -> bytes:
        try:
            observation = wire.unpack(data) if isinstance(data, bytes) else None
        except ValueError as error:
            raise AloeError(f"Observation: {error}.") from error
        if not isinstance(observation, dict):
            raise AloeError(f"Observation: a {type(observation).__name__}: expected a dict in a binary message.")
        with self._lock:
            start = time.perf_counter()
            answer = self._service.answer(observation)
            timing = {"infer_ms": (time.perf_counter() - start) * 1e3}
        if before is not None:
            timing["prev_total_ms"] = before * 1e3
        return wire.pack({**answer, "server_timing": timing})


def _report(connection: ServerConnection, client: str, text: str, line: str) -> None:
    log.error("%s was refused: %s", client, line)
    try:
        connection.send(text)
        connection.close(CloseCode.INTERNAL_ERROR, "The error is in the frame before.")
    except ConnectionClosed:
        log.info("%s left before it was told", client)


def _health(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(http.HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None

"""Keeps a connection to a policy server: connects in a thread of its own, checks, notices the end, tries again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from aloe_core.errors import AloeError
from aloe_policy.remote.connection import Connection

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # s between attempts
_LOOK_PERIOD = 0.5  # s between looks at an idle connection
_PING_PERIOD = 5.0  # s between pings of one, which must be answered within as much: a vanished host sends no end


class Link:
    """Connected or on the way to be, from `start` to `close`.

    `accept(connection)` decides whether the server may drive, in the link's thread: AloeError refuses it; any other
    exception ends the thread and is handed to `crashed`. `changed()` is called from that thread or the one that
    requests after every change of `problem`. `request` is for one caller at a time; it never waits for a connection.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        accept: Callable[[Connection], None],
        changed: Callable[[], None] = lambda: None,
        crashed: Callable[[Exception], None] = lambda error: None,
        api_key: str = "",
    ) -> None:
        self.url, self._timeout, self._api_key = url, timeout, api_key
        self._accept, self._changed, self._crashed = accept, changed, crashed
        self._problem: str | None = f"Policy server {url}: not connected yet."
        self._connection: Connection | None = None
        self._busy = False  # a request is on its way
        self._requests = 0
        self._closed = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="policy-server", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the connection and the thread."""
        with self._wake:
            self._closed = True
            connection = self._connection
            self._wake.notify_all()
        if connection is not None:
            connection.close()
        if self._thread.is_alive():
            self._thread.join(2 * self._timeout + 1)

    @property
    def problem(self) -> str | None:
        """Why there is no connection, in a sentence; None while there is one."""
        return self._problem

    def request(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Return the server's answer; AloeError without a connection, at once, and for every failure of one."""
        with self._wake:
            connection = self._connection
            if connection is None:
                raise AloeError(self._problem or f"Policy server {self.url}: not connected.")
            self._busy, self._requests = True, self._requests + 1
        try:
            return connection.request(observation, self._timeout)
        except AloeError as error:
            self._lose(connection, str(error))
            raise
        finally:
            self._busy = False

    def _run(self) -> None:
        try:
            self._keep_connected()
        except Exception as error:  # noqa: BLE001  not ours to judge: the owner gets it
            self._crashed(error)

    def _keep_connected(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closed:
            try:
                connection = self._open()
            except AloeError as error:
                self._say(str(error))
                self._wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            self._say(None)
            self._watch(connection)
            self._wait(pause)

    def _open(self) -> Connection:
        connection = Connection(self.url, self._timeout, self._api_key)
        try:
            self._accept(connection)
        except AloeError:
            connection.close()
            raise
        with self._wake:
            self._connection = connection
        return connection

    def _watch(self, connection: Connection) -> None:
        """Return when the connection is lost or the link closed."""
        idle, seen = 0.0, self._requests
        while self._connection is connection and not self._closed:
            self._wait(_LOOK_PERIOD)
            if not connection.alive:
                self._lose(connection, f"Policy server {self.url}: the connection was lost.")
            elif self._busy or self._requests != seen:
                idle, seen = 0.0, self._requests
            elif (idle := idle + _LOOK_PERIOD) >= _PING_PERIOD:
                if not connection.answers_ping(_PING_PERIOD) and not self._busy and self._requests == seen:
                    self._lose(connection, f"Policy server {self.url}: no sign of it for {2 * _PING_PERIOD:g} s.")
                idle = 0.0
        connection.close()

    def _lose(self, connection: Connection, why: str) -> None:
        with self._wake:
            if self._connection is not connection:
                return
            self._connection = None
            self._wake.notify_all()
        self._say(why)

    def _say(self, problem: str | None) -> None:
        if problem != self._problem:
            self._problem = problem
            if not self._closed:
                self._changed()

    def _wait(self, seconds: float) -> None:
        with self._wake:
            if not self._closed:
                self._wake.wait(seconds)

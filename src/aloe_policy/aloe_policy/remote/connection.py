"""One open connection to a policy server: a request out, its answer in, within a time."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.protocol import OPEN
from websockets.sync.client import connect

from aloe_core.errors import AloeError
from aloe_policy.remote import wire


class Lost(AloeError):
    """The server is not there, or did not answer in time: what was asked may or may not have been done."""


class Connection:
    """Not thread-safe, but `close`, `alive` and `answers_ping` may be called from another thread than `request`.

    Every failure is an AloeError that begins with "Policy server <url>:", and a Lost if the server said nothing of it;
    after one of `request` the connection is of no use: an answer that comes late would be taken for that of the next
    request.
    """

    def __init__(self, url: str, timeout: float, api_key: str = "") -> None:
        """Connect and read the server's metadata, each within `timeout` s."""
        self.url = url
        headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        try:
            self._socket = connect(
                url,
                compression=None,  # images hardly shrink, and openpi uses none
                max_size=wire.MAX_BYTES,
                open_timeout=timeout,
                close_timeout=0.5,
                ping_interval=None,  # a server that is computing answers no ping; `answers_ping` asks while it is idle
                proxy=None,
                additional_headers=headers,
            )
        except InvalidURI as error:
            raise AloeError(f"Policy server {url}: not an address such as ws://host:8000.") from error
        except (OSError, InvalidHandshake) as error:
            raise Lost(f"Policy server {url}: cannot connect ({_line(error)}).") from error
        # websockets has no time-out for sending: a server that does not read must not block the sender. Half of it,
        # since what the buffers still take ends one wait and begins another.
        seconds, fraction = divmod(timeout / 2, 1)
        limit = struct.pack("ll", int(seconds), int(fraction * 1e6))
        self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.metadata = self._receive(timeout)
        except AloeError:
            self.close()
            raise

    def request(self, observation: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Return the server's answer; AloeError if it is an error, no dict, or not there within `timeout` s."""
        deadline = time.monotonic() + timeout
        data = wire.pack(observation)
        if len(data) > wire.MAX_BYTES:
            raise AloeError(
                f"Policy server {self.url}: a request of {len(data) >> 20} MiB: expected at most "
                f"{wire.MAX_BYTES >> 20}; send fewer or smaller images at once."
            )
        try:
            self._socket.send(data)
        except (ConnectionClosed, OSError) as error:
            raise Lost(f"Policy server {self.url}: the connection was lost ({_line(error)}).") from error
        answer = self._receive(max(0.0, deadline - time.monotonic()), timeout)
        if not isinstance(answer, dict):
            raise AloeError(f"Policy server {self.url}: its answer is a {type(answer).__name__}: expected a dict.")
        return answer

    @property
    def alive(self) -> bool:
        return self._socket.state is OPEN

    def answers_ping(self, timeout: float) -> bool:
        """Whether a ping is answered within `timeout` s; a server that is computing may not."""
        try:
            return self._socket.ping().wait(timeout)
        except (ConnectionClosed, OSError):
            return False

    def close(self) -> None:
        self._socket.close()

    def _receive(self, timeout: float, promised: float | None = None) -> Any:
        try:
            data = self._socket.recv(timeout)
        except TimeoutError as error:
            limit = timeout if promised is None else promised
            raise Lost(f"Policy server {self.url}: no answer within {limit:g} s.") from error
        except (ConnectionClosed, OSError) as error:
            raise Lost(f"Policy server {self.url}: the connection was lost ({_line(error)}).") from error
        if isinstance(data, str):  # openpi sends the traceback as text
            lines = [line.strip() for line in data.splitlines() if line.strip()]
            raise AloeError(f"Policy server {self.url}: it reports an error ({lines[-1] if lines else 'no text'}).")
        try:
            return wire.unpack(data)
        except ValueError as error:
            raise AloeError(f"Policy server {self.url}: {error}.") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

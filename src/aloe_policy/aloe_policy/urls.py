"""Folders at a URL: files read from any byte on, so that a transfer goes on where it stopped.

HTTP is spoken by the standard library, which streams whatever the server sends; everything else (S3, GCS, SSH, …) is
fsspec's.
"""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import fsspec

from aloe_core.checkpoint import LATEST, check_name
from aloe_core.errors import AloeError

_BLOCK = 1 << 20  # bytes handed on at once
_READ_AHEAD = 8 << 20  # bytes an object store is asked for at once
_SMALL = 1 << 20  # bytes of a manifest
_SILENCE = 20.0  # s without a byte after which an HTTP server counts as gone
_OBJECT_STORES = {"s3", "gs", "abfs"}
_FILE_SYSTEMS = {"file", "local", "sftp", "ssh"}  # a cut may leave half a file there, and renaming replaces one
_GONE = {404, 410}
_TRY_AGAIN = {408, 425, 429}  # HTTP statuses below 500 that pass


class Unreachable(AloeError):
    """The server is not there or went away; the next attempt may succeed."""


class NotThere(AloeError):
    """The server has no such file."""


class RemoteFolder(Protocol):
    """Some files under one URL."""

    def blocks(self, name: str, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of a file from byte `start` on, or from 0 where the server cannot do that.

        Unreachable if another attempt may succeed, else AloeError.
        """
        ...


def is_url(uri: str) -> bool:
    """Return whether `uri` is anywhere but in this machine's file system."""
    return ("://" in uri and not uri.startswith("file://")) or "::" in uri


def open_remote(url: str) -> RemoteFolder:
    """Return the folder at `url`; AloeError if nothing can open this kind of URL."""
    return HttpFolder(url) if urlsplit(url).scheme in ("http", "https") else FsspecFolder(url)


def shown(url: str) -> str:
    """Return a URL as it may be logged: without user, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL after all
        return f"{url.partition('://')[0]}://…"
    if not parts.netloc:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def read_small(remote: RemoteFolder, name: str, largest: int = _SMALL) -> bytes:
    """Return the content of a file; AloeError if it has more than `largest` bytes."""
    content = b""
    for _, block in remote.blocks(name):
        content += block
        if len(content) > largest:
            raise AloeError(f"{name}: more than {largest} bytes, so this is no checkpoint.")
    return content


def remote_latest(url: str) -> str | None:
    """Return the version that LATEST of the folder at `url` names, None if there is no LATEST; errors as `blocks`."""
    try:
        content = read_small(open_remote(url), LATEST)
    except NotThere:
        return None
    version = content.decode(errors="replace").strip()
    check_name(version)
    return version


class HttpFolder:
    """http:// or https://; user and password of the URL go into an Authorization header."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        credentials, _, host = parts.netloc.rpartition("@")
        self._url = parts._replace(netloc=host).geturl().rstrip("/")
        self._credentials = base64.b64encode(unquote(credentials).encode()).decode()

    def blocks(self, name: str, start: int = 0) -> Iterator[tuple[int, bytes]]:
        url = f"{self._url}/{name}"
        with _asked(url), urlopen(self._request(url, start), timeout=_SILENCE) as response:
            offset = start if response.status == http.client.PARTIAL_CONTENT else 0
            while block := response.read(_BLOCK):
                yield offset, block
                offset += len(block)
            if response.length:  # http.client ends such a body without a word
                raise Unreachable(f"{shown(url)}: the server went away {response.length} bytes before the end.")

    def _request(self, url: str, start: int) -> Request:
        request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        if self._credentials:  # not for whom the server may redirect to
            request.add_unredirected_header("Authorization", f"Basic {self._credentials}")
        return request


class FsspecFolder:
    """Any file system that fsspec knows, and for writing too."""

    def __init__(self, url: str) -> None:
        self._url = shown(url).rstrip("/")
        with _asked(self._url):
            self._system, path = fsspec.core.url_to_fs(url)
        self._path = path.rstrip("/")
        protocol = self._system.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)

    def blocks(self, name: str, start: int = 0) -> Iterator[tuple[int, bytes]]:
        with (
            _asked(f"{self._url}/{name}"),
            self._system.open(f"{self._path}/{name}", "rb", block_size=_READ_AHEAD) as file,
        ):
            file.seek(start)
            while block := file.read(_BLOCK):
                yield start, block
                start += len(block)

    def put(self, name: str, path: str) -> None:
        """Upload a local file; Unreachable or AloeError."""
        with _asked(f"{self._url}/{name}"):
            self._make_parent(name)
            self._system.put_file(path, f"{self._path}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file, as a whole or not at all; Unreachable or AloeError."""
        final = f"{self._path}/{name}"
        with _asked(f"{self._url}/{name}"):
            self._make_parent(name)
            if _FILE_SYSTEMS.isdisjoint(self._protocols):
                self._system.pipe_file(final, content)
            else:
                self._system.pipe_file(f"{final}.partial", content)
                self._system.mv(f"{final}.partial", final)

    def _make_parent(self, name: str) -> None:
        if _OBJECT_STORES.isdisjoint(self._protocols):  # there it would make a bucket out of a spelling mistake
            self._system.makedirs(f"{self._path}/{name}".rpartition("/")[0], exist_ok=True)


@contextmanager
def _asked(url: str) -> Iterator[None]:
    """Turn what the transports raise into AloeError, by whether another attempt makes sense."""
    try:
        yield
    except AloeError:
        raise
    except (HTTPError, FileNotFoundError) as error:
        raise _kind(error)(f"{shown(url)}: {_reason(error)}.") from error
    except (PermissionError, NotImplementedError, ImportError, ValueError, http.client.InvalidURL) as error:
        raise AloeError(f"{shown(url)}: cannot be opened ({_reason(error)}).") from error
    except Exception as error:  # what a library behind fsspec raises is known to that library alone
        raise Unreachable(f"{shown(url)}: cannot be reached ({_reason(error)}).") from error


def _kind(error: HTTPError | FileNotFoundError) -> type[AloeError]:
    if isinstance(error, FileNotFoundError) or error.code in _GONE:
        return NotThere
    return Unreachable if error.code >= 500 or error.code in _TRY_AGAIN else AloeError


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = " ".join(str(getattr(error, "reason", None) or error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

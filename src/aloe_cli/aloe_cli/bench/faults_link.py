"""Two machines and the cable between them: network namespaces joined by a veth pair, where that is allowed."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

from aloe_core.errors import AloeError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
# Only the cable carries anything: no interface outside these two namespaces.
_ENVIRONMENT = {
    "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
}

_PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"  # may be that of one machine


class Cable:
    """While the block lasts this thread, and what it starts, is on the robot; `elsewhere` prefixes a command there.

    AloeError where namespaces are not allowed.
    """

    def __init__(self) -> None:
        self._robot, self._box = (f"aloe-{side}-{os.getpid()}" for side in ("robot", "box"))
        self.elsewhere = ["ip", "netns", "exec", self._box]
        self._home = -1
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> Cable:
        if shutil.which("ip") is None:
            raise AloeError("No link can be cut: there is no `ip` (iproute2).")
        try:
            self._build()
            self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            self._enter(f"/run/netns/{self._robot}")
        except AloeError:
            self._remove()
            raise
        self._before = {name: os.environ.get(name) for name in (*_ENVIRONMENT, _PROFILES)}
        os.environ.pop(_PROFILES, None)
        os.environ.update(_ENVIRONMENT)
        return self

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._enter(f"/proc/self/fd/{self._home}")
        os.close(self._home)
        self._remove()

    def cut(self) -> None:
        _ip("-n", self._box, "link", "set", "aloe1", "down")

    def mend(self) -> None:
        _ip("-n", self._box, "link", "set", "aloe1", "up")
        _ip("-n", self._box, "route", "replace", "224.0.0.0/4", "dev", "aloe1")  # it went with the link

    def _build(self) -> None:
        _ip("netns", "add", self._robot)
        _ip("netns", "add", self._box)
        _ip("-n", self._robot, "link", "add", "aloe0", "type", "veth", "peer", "name", "aloe1", "netns", self._box)
        for number, side in enumerate((self._robot, self._box)):
            _ip("-n", side, "addr", "add", f"10.203.0.{number + 1}/24", "dev", f"aloe{number}")
            for device in ("lo", f"aloe{number}"):
                _ip("-n", side, "link", "set", device, "up")
            _ip("-n", side, "route", "add", "224.0.0.0/4", "dev", f"aloe{number}")

    def _remove(self) -> None:
        for side in (self._robot, self._box):
            if Path("/run/netns", side).exists():
                _ip("netns", "delete", side)

    def _enter(self, namespace: str) -> None:
        target = os.open(namespace, os.O_RDONLY)
        try:
            if _libc.setns(target, _CLONE_NEWNET):
                raise AloeError(f"No link can be cut: {os.strerror(ctypes.get_errno())}.")
        finally:
            os.close(target)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise AloeError(f"No link can be cut: network namespaces are not allowed here ({done.stderr.strip()}).")

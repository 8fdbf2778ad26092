"""A ROS domain of a process's own: tests and benchmarks that run side by side, or beside a robot, never meet."""

import fcntl
import os
import tempfile
from functools import cache
from pathlib import Path

from aloe_core.errors import AloeError

DOMAINS = range(1, 101)  # higher ids map to UDP ports in Linux's ephemeral range


@cache
def own_domain() -> str:
    """Return a ROS_DOMAIN_ID that no other process got here, set in the environment for the nodes this one starts too.

    The same at every call, never the one of this shell. It is free again when this process has ended. AloeError if all
    are taken.
    """
    domain = str(_claim(os.environ.get("ROS_DOMAIN_ID", "")))
    os.environ["ROS_DOMAIN_ID"] = domain
    if Path(os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE", "")).name != "fastdds.xml":  # which sees to that
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    return domain


def _claim(of_this_shell: str) -> int:
    for domain in DOMAINS:
        if str(domain) == of_this_shell:
            continue
        path = Path(tempfile.gettempdir(), f"aloe-domain-{os.getuid()}-{domain}")
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            return domain  # the lock lasts as long as the open handle, which is as long as this process
    raise AloeError(f"All {len(DOMAINS)} ROS domains that tests and benchmarks share are taken: end some of them.")

"""Every pytest process talks on a ROS domain of its own, on this machine only."""

import fcntl
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Speed is measured by benchmarks; on a busy machine a deadline fails at random.
settings.register_profile("aloe", deadline=None)
settings.load_profile("aloe")

if "AMENT_PREFIX_PATH" not in os.environ:
    pytest.exit("the environment is not entered: run 'make test', or 'source scripts/env.sh' first", returncode=2)


def _claim_domain() -> int:
    """Lowest domain id that no other test process holds; the lock is dropped when this process ends.

    1 to 100: higher ids map to UDP ports in Linux's ephemeral range.
    """
    for domain in range(1, 101):
        path = Path(tempfile.gettempdir(), f"aloe-test-domain-{os.getuid()}-{domain}")
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        return domain  # handle stays open
    pytest.exit("all 100 test domains are taken", returncode=2)


# Threads of linear algebra wait for each other by spinning: beside other work two are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ROS_DOMAIN_ID"] = str(_claim_domain())
if Path(os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE", "")).name != "fastdds.xml":  # which sees to that
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

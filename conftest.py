"""Every pytest process talks on a ROS domain of its own, on this machine only."""

import os

import pytest
from hypothesis import settings

# Speed is measured by benchmarks; on a busy machine a deadline fails at random.
settings.register_profile("aloe", deadline=None)
settings.load_profile("aloe")

if "AMENT_PREFIX_PATH" not in os.environ:
    pytest.exit("the environment is not entered: run 'make test', or 'source scripts/env.sh' first", returncode=2)

from aloe_ros.domain import own_domain  # noqa: E402, found in that environment

own_domain()
# Threads of linear algebra wait for each other by spinning: beside other work two are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

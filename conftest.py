"""Every pytest process talks on a ROS domain of its own, on this machine only; several may share the tests."""

import os
import signal

import pytest
from hypothesis import settings

# Speed is measured by benchmarks; on a busy machine a deadline fails at random.
settings.register_profile("aloe", deadline=None)
settings.load_profile("aloe")

if "AMENT_PREFIX_PATH" not in os.environ:
    pytest.exit("the environment is not entered: run 'make test', or 'source scripts/env.sh' first", returncode=2)

from aloe_ros.domain import own_domain  # noqa: E402, found in that environment

own_domain()
# A shell's background job ignores Ctrl-C, and so would all that tests start and send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Threads of linear algebra wait for each other by spinning: beside other work two are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


TOGETHER = {"test/test_parity.py": "test/test_graph.py"}  # they look at the same recorded episodes


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand whole files to the workers, so that what a module sets up is set up once."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return TOGETHER.get(file, file)

    config.option.loadscopereorder = False  # the order is that below
    return ByFile(config, log)


def pytest_collection_modifyitems(config, items):
    """Long files go first to workers, or one would end with a long file while the others have nothing left."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)

"""Processes that ask for a ROS domain of their own get different ones, and give them back by ending."""

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager

from aloe_ros.domain import DOMAINS, own_domain

SCRIPT = """
import os, sys
from aloe_ros.domain import own_domain
assert own_domain() == own_domain() == os.environ["ROS_DOMAIN_ID"]
print(own_domain(), flush=True)
sys.stdin.read()
"""


@contextmanager
def process(folder, of_its_shell=""):
    """A process that keeps its domain while the block lasts; gives the domain."""
    environment = os.environ | {"TMPDIR": str(folder), "ROS_DOMAIN_ID": of_its_shell}
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as running:
        yield int(running.stdout.readline())


def test_processes_side_by_side_have_different_domains_and_an_ended_one_gives_its_own_back(tmp_path):
    with ExitStack() as others:
        with process(tmp_path) as first:
            second = others.enter_context(process(tmp_path))
            assert first != second and {first, second} <= set(DOMAINS)
        assert others.enter_context(process(tmp_path)) == first


def test_the_domain_of_the_shell_is_not_taken_for_a_robot_may_be_in_it(tmp_path):
    assert process_gets(tmp_path, "") == DOMAINS[0]
    assert process_gets(tmp_path, str(DOMAINS[0])) == DOMAINS[1]


def process_gets(folder, of_its_shell):
    with process(folder, of_its_shell) as domain:
        return domain


def test_this_pytest_has_one():
    assert os.environ["ROS_DOMAIN_ID"] == own_domain()

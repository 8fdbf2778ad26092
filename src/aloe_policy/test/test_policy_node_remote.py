"""policy_node as a process, driven by a policy server as a process; this test plays the rest of the graph."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import yaml
from aloe_msgs.msg import ControlMode
from aloe_msgs.srv import LoadCheckpoint

from aloe_ros.testing import node_process
from server_processes import openpi
from test_policy_node import DT, robot_driver, running_node
from tiny_policy import CONTRACT, write_tiny

pytestmark = [pytest.mark.usefixtures("helpers_on_path"), pytest.mark.slow]


def test_a_policy_server_drives_is_lost_and_drives_again(tmp_path):
    """Lock-step, one story: not there, there, killed, there again; an announcement never replaces it."""
    with openpi(tmp_path / "first.log") as first:
        first.end()
        given = {"remote_url": first.url, "remote_timeout": 5.0}
        with running_node(tmp_path, **given) as (station, root):
            station.reports("cannot connect")
            station.announce(write_tiny(root, "v1"))
            station.reports("cannot connect")
            station.task("e1")
            station.frame()
            station.joints()
            station.mode(ControlMode.POLICY)
            with openpi(tmp_path / "second.log", first.port) as second:
                chunk = station.chunk(1)
                np.testing.assert_allclose(chunk.actions[0], [0.11, -0.19], rtol=1e-5)
                version = chunk.policy_version
                assert version.startswith(f"127.0.0.1:{first.port}@")
                station.reports(f"checkpoint refused: Checkpoint v1: refused, {first.url} is pinned")
                station.run(chunk)
                chunk = station.chunk(2)
                second.end()
                station.reports("Policy server")
                station.run(chunk)
                station.reports("failed: Policy server")
            with openpi(tmp_path / "third.log", first.port):
                station.spinner.until(lambda: says(station, "server", "connected"), "connected again")
                station.joints(stamp=station.step * DT + DT)
                assert station.chunk(3).policy_version == version

            loaded = station.spinner.call(station.load, LoadCheckpoint.Request(uri=str(root / "v1")))
            assert loaded.success, "an operator's order replaces it"


def says(station, key, value):
    return any(p.key == key and p.value == value for a in station.diagnostics[-1:] for p in a.status[0].values)


def test_a_server_that_hangs_holds_up_nothing_but_its_chunk(tmp_path):
    """On the wall clock: the node goes on reporting and ends when it is told to, whatever the server does."""
    with openpi(tmp_path / "log.server") as server:
        given = {"lockstep": False, "remote_url": server.url, "remote_timeout": 1.0}
        with running_node(tmp_path, **given) as (station, _):
            station.spinner.until(lambda: says(station, "server", "connected"), "connected")
            station.task("e1")
            _, driver = robot_driver(station)
            station.mode(ControlMode.POLICY)
            station.spinner.until(lambda: len(station.chunks) >= 4, "four chunks")
            os.kill(server.process.pid, signal.SIGSTOP)
            station.reports("no answer within 1 s")
            count = len(station.chunks)
            os.kill(server.process.pid, signal.SIGCONT)
            station.spinner.until(lambda: len(station.chunks) >= count + 2, "chunks again")
            station.destroy_timer(driver)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"remote_url": "http://gpu:8000"}, "remote_url = 'http://gpu:8000': expected ws://host:port"),
        ({"remote_mapping": "server.yaml"}, "remote_mapping needs remote_url"),
        ({"remote_url": "ws://gpu:8000", "remote_mapping": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
    ],
)
def test_parameters_of_a_server_that_make_no_sense_end_the_node(tmp_path, given, said):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONTRACT))
    given = {"contract": tmp_path / "tiny.yaml", **given}
    with node_process("tiny_policy_node", given, tmp_path / "log") as process:
        assert process.wait(60) == 2
    assert said in (tmp_path / "log").read_text()

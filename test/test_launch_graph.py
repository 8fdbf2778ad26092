"""launch/sim.launch.xml for real: it comes up, is what docs/architecture.md says, and goes without a trace."""

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

import rclpy

from aloe_cli import paths
from aloe_cli.checks import EXECUTABLES
from aloe_core.contract import load_contract
from aloe_ros.testing import Spinner, stop

ROOT = Path(__file__).parents[1]
NAMESPACE = "/graph_test"
NODES = {name for names in EXECUTABLES.values() for name in names} - {"joy_reader"}  # only a robot has a pad
SERVICES = {
    "control/set_mode",
    "control/reset_estop",
    "recorder/start",
    "recorder/stop",
    "episode/label",
    "policy/load_checkpoint",
    "policy/rollback_checkpoint",
    "station/reset",
    "episodes/run/_action/send_goal",
    "trainer/train/_action/send_goal",
}
STARTUP = 120.0  # s

pytestmark = pytest.mark.slow


class Graph:
    """The launched graph, seen by a node of this test."""

    def __init__(self, log: Path, folder: Path) -> None:
        command = [sys.executable, "-m", "aloe_cli", "launch", "--built-in", str(ROOT / "launch" / "sim.launch.xml")]
        arguments = {"namespace": NAMESPACE, "bag_dir": folder / "bags", "checkpoint_dir": folder / "checkpoints"}
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, *(f"{name}:={value}" for name, value in arguments.items())],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "ROS_LOG_DIR": str(folder / "log")},
            )
        self.node = rclpy.create_node("graph_test")
        self.spinner = Spinner(self.node)

    def wait(self) -> None:
        """Wait for every node and service; fails with the log if the launch ends before."""

        def there() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            names = {name for name, space in self.node.get_node_names_and_namespaces() if space == NAMESPACE}
            services = {name for name, _ in self.node.get_service_names_and_types()}
            return names >= NODES and services >= {f"{NAMESPACE}/{name}" for name in SERVICES}

        self.spinner.until(there, f"all nodes and services; log: {self.log.read_text()}", STARTUP)

    def writers(self, topic: str) -> set[str]:
        return {i.node_name for i in self.node.get_publishers_info_by_topic(topic)} & NODES

    def readers(self, topic: str) -> set[str]:
        return {i.node_name for i in self.node.get_subscriptions_info_by_topic(topic)} & NODES

    def close(self) -> None:
        stop(self.process, timeout=30)
        self.spinner.close()
        self.node.destroy_node()

    @property
    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"process started with pid \[(\d+)\]", self.log.read_text())]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    rclpy.init()
    graph = Graph(folder / "launch.log", folder)
    try:
        graph.wait()
        yield graph
    finally:
        graph.close()
        rclpy.try_shutdown()


def documented_topics():
    """Return type, writers and readers of each topic of docs/architecture.md, camera names filled in."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.split("## Topics", 1)[1].split("\n## ", 1)[0]
    topics = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`"):
            for camera in load_contract(paths.contract(None)).camera_names:
                topics[cells[0].strip("`").replace("<name>", camera)] = (cells[1], cells[2], cells[3])
    assert len(topics) > 15
    return topics


def named(cell: str) -> set[str]:
    """Return the nodes a cell of the table names, in full or as `policy`, `human`, …"""
    short = {name.removesuffix("_node").removeprefix("episode_").removeprefix("scripted_"): name for name in NODES}
    words = re.findall(r"\w+", cell)
    return {short.get(word, word) for word in words} & NODES


@pytest.mark.parametrize("topic", documented_topics())
def test_topic_has_the_type_writer_and_readers_that_are_documented(graph, topic):
    kind, writers, readers = documented_topics()[topic]
    name = topic if topic.startswith("/") else f"{NAMESPACE}/{topic}"
    package, message = re.match(r"(\w+)/(\w+)", kind).groups()
    expected = NODES if writers == "all" else named(writers)
    graph.spinner.until(lambda: graph.writers(name) == expected, f"{name} is written by {expected}")
    assert dict(graph.node.get_topic_names_and_types())[name] == [f"{package}/msg/{message}"]
    if not readers.startswith("all"):  # whoever wants to
        least = named(readers) - {"episode_recorder"}  # which listens only during a take
        graph.spinner.until(lambda: least <= graph.readers(name) <= named(readers), f"{name} is read by {least}")


def test_no_topic_is_undocumented(graph):
    documented = {t if t.startswith("/") else f"{NAMESPACE}/{t}" for t in documented_topics()}
    private = re.compile("/(parameter_events|rosout)$|/transition_event$|/_action/")
    topics = {name for name, _ in graph.node.get_topic_names_and_types() if graph.writers(name) | graph.readers(name)}
    own = {t for t in topics if not private.search(t) and not any(f"/{node}/" in t for node in NODES)}
    assert own - documented == set()


def test_ctrl_c_ends_every_process_cleanly(graph):
    pids = graph.pids
    assert len(pids) == len(NODES)
    graph.process.send_signal(signal.SIGINT)
    assert graph.process.wait(30) == 0, graph.log.read_text()
    assert [pid for pid in pids if not ended(pid)] == []
    text = graph.log.read_text()
    assert text.count("process has finished cleanly") == len(NODES), text
    assert "Traceback" not in text, text


def ended(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 0)[0])
    finally:
        os.close(handle)

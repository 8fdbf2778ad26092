"""joy_reader as a real process on a controller made of kernel input events: presses, unplugging, a killed reader."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import rclpy

evdev = pytest.importorskip("evdev")

from evdev import ecodes
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool

from aloe_ros import qos
from aloe_ros.testing import Spinner, node_process, stop
from fifo_pad import Plug

CONTRACT = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"


class Reader(Node):
    def __init__(self) -> None:
        super().__init__("reader")
        self.joy: list[Joy] = []
        self.presence: list[bool] = []
        self.alive: list[int] = []
        self.create_subscription(Joy, "joy", self.joy.append, qos.DEFAULT)
        callbacks = SubscriptionEventCallbacks(liveliness=lambda event: self.alive.append(event.alive_count))
        self.create_subscription(
            Bool, "joy/presence", lambda msg: self.presence.append(msg.data), qos.PRESENCE, event_callbacks=callbacks
        )


@pytest.fixture
def graph(tmp_path, monkeypatch):
    plug = Plug(tmp_path / "event0")
    monkeypatch.setenv("ALOE_TEST_PAD", str(plug.path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]]))
    rclpy.init()
    node = Reader()
    spinner = Spinner(node)
    with node_process("fifo_pad", {"contract": CONTRACT}, tmp_path / "log") as process:
        spinner.until(lambda: node.presence, "joy_reader says that there is no pad")
        yield node, spinner, plug, process, tmp_path / "log"
    spinner.close()
    node.destroy_node()
    rclpy.shutdown()
    plug.unplug()


def test_a_pad_is_found_followed_repeated_lost_and_found_again(graph):
    node, spinner, plug, process, log = graph
    assert not any(node.presence) and not node.joy
    plug.plug_in()
    spinner.until(lambda: node.presence[-1] and node.joy, "the pad is found")
    plug.key(ecodes.BTN_TL, True)
    spinner.until(lambda: node.joy[-1].buttons[4] == 1, "the press arrives")
    count = len(node.joy)
    spinner.until(lambda: len(node.joy) >= count + 5, "the state is repeated while nothing moves")
    assert all(msg.buttons[4] == 1 for msg in node.joy[count:])

    plug.unplug()
    spinner.until(lambda: not node.presence[-1], "unplugging is said", timeout=5.0)
    spinner.until(lambda: "Expected one game controller, found 0" in log.read_text(), "the log says what is missing")
    assert node.joy[-1].buttons[4] == 1, "a release was made up, which hands the robot back to the policy"

    plug.plug_in()
    spinner.until(lambda: node.presence[-1] and not any(node.joy[-1].buttons), "the pad is found again")
    assert stop(process) == 0


def test_a_killed_reader_is_missed_within_its_lease(graph):
    node, spinner, _plug, process, _log = graph
    spinner.until(lambda: node.alive and node.alive[-1] == 1, "the reader is known to be alive")
    process.send_signal(signal.SIGKILL)
    spinner.until(lambda: node.alive[-1] == 0, "its death is noticed", timeout=3.0)


def test_without_evdev_the_process_ends_with_code_2_and_one_sentence():
    code = "import sys; sys.modules['evdev'] = None; from aloe_teleop.nodes.joy_reader import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--ros-args", "-p", f"contract:={CONTRACT}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1].startswith("joy_reader needs the package evdev")

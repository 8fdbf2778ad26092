"""Ending a node: what has begun to close is finished, however often the operator presses Ctrl-C."""

import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

NODE = """
import sys
from rclpy.node import Node
from aloe_ros.node import run

class Closing(Node):
    def __init__(self):
        super().__init__("closing")
        self.create_timer(0.01, lambda: print("ready", flush=True))

def close(node):
    print("closing", flush=True)
    sys.stdin.readline()  # still busy when the second signal comes
    print("closed", flush=True)

sys.exit(run(Closing, close=close))
"""


def test_second_sigint_does_not_interrupt_the_closing():
    with subprocess.Popen(
        [sys.executable, "-c", NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        while process.stdout.readline() != "closing\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate("go on\n", timeout=30)
        assert out == "closed\n"
        assert process.returncode == 0


IN_A_CALLBACK = """
import sys
from rclpy.node import Node
from std_msgs.msg import Empty
from aloe_ros.node import run

class Working(Node):
    def __init__(self):
        super().__init__("working")
        self.publisher = self.create_publisher(Empty, "done", 1)
        self.create_timer(0.01, self.work)

    def work(self):
        print("ready", flush=True)
        sys.stdin.readline()  # where the signal comes
        self.publisher.publish(Empty())
        print("whole", flush=True)

sys.exit(run(Working))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_callback_finish_that_it_comes_in_and_publish(number):
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_CALLBACK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, _ = process.communicate("go on\n", timeout=30)
        assert out.startswith("whole\n")
        assert process.returncode == 0

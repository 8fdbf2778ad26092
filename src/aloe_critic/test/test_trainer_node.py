"""trainer_node as a process over DDS, with a trainer that follows the protocol without learning."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import rclpy
from action_msgs.msg import GoalStatus
from aloe_msgs.action import Train
from aloe_msgs.msg import Checkpoint, TrainerStatus
from rclpy.action import ActionClient
from rclpy.node import Node

from aloe_core.checkpoint import manifest_sha256, verify_checkpoint
from aloe_ros import qos
from aloe_ros.testing import Spinner, node_process, stop

CONTRACT = Path(__file__).parents[3] / "config" / "robots" / "aloha_sim.yaml"


class Operator(Node):
    """Sends goals and hears what the trainer says."""

    def __init__(self):
        super().__init__("operator")
        self.announced, self.statuses, self.feedback = [], [], []
        self.create_subscription(Checkpoint, "checkpoint", self.announced.append, qos.LATCHED)
        self.create_subscription(TrainerStatus, "trainer/status", self.statuses.append, qos.LATCHED)
        self.client = ActionClient(self, Train, "trainer/train")
        self.spinner = Spinner(self)

    def send(self, **goal):
        """Send a goal; returns its handle once it is accepted."""
        self.spinner.until(self.client.server_is_ready, "the action server")
        future = self.client.send_goal_async(
            Train.Goal(**goal), feedback_callback=lambda m: self.feedback.append(m.feedback)
        )
        self.spinner.until(future.done, "the goal's acceptance")
        assert future.result().accepted
        return future.result()

    def result(self, handle):
        """Return (status, result) of a goal."""
        future = handle.get_result_async()
        self.spinner.until(future.done, "the result")
        return future.result().status, future.result().result

    def train(self, **overrides):
        return self.result(self.send(method="bc", overrides_json=json.dumps(overrides)))


@contextmanager
def trainer(folder, monkeypatch):
    """Give an operator, a function that starts the node (a context) and the checkpoint folder."""
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])))
    root = folder / "checkpoints"
    parameters = {"contract": CONTRACT, "checkpoint_dir": root, "trainer_module": "fake_trainer"}
    rclpy.init()
    operator = Operator()
    try:
        start = partial(node_process, "aloe_critic.nodes.trainer_node")
        yield operator, lambda **more: start(parameters | more, folder / "log"), root
    finally:
        operator.spinner.close()
        operator.destroy_node()
        rclpy.shutdown()


def test_a_goal_trains_and_the_checkpoint_is_announced_again_after_a_restart(tmp_path, monkeypatch):
    with trainer(tmp_path, monkeypatch) as (operator, node, root):
        with node() as process:
            status, result = operator.train()
            assert (status, result.success, result.version) == (GoalStatus.STATUS_SUCCEEDED, True, "v1")
            assert (result.episodes, result.transitions, json.loads(result.metrics_json)["nice"]) == (
                4,
                50,
                min(19, os.nice(0) + 5),
            )
            operator.spinner.until(lambda: operator.announced, "the announcement")
            announced = operator.announced[0]
            assert (announced.version, announced.step, announced.method) == ("v1", 3, "bc")
            assert announced.sha256 == manifest_sha256(root / "v1")
            verify_checkpoint(announced.uri, expect_sha256=announced.sha256)
            operator.spinner.until(lambda: operator.feedback, "feedback")
            assert (operator.feedback[0].phase, operator.feedback[0].loss) == ("critic", 0.5)
            said = lambda: operator.statuses and operator.statuses[-1].detail == "Published v1."  # noqa: E731
            operator.spinner.until(said, "the status of the end")
            assert (operator.statuses[-1].state, operator.statuses[-1].episodes) == (TrainerStatus.IDLE, 4)
            assert stop(process) == 0, (tmp_path / "log").read_text()
        operator.announced.clear()
        with node():
            operator.spinner.until(lambda: operator.announced, "LATEST is announced at the start")
            assert operator.announced[0].version == "v1"
        operator.announced.clear()
        url = f"file://{tmp_path}/store"
        with node(publish_url=url):
            operator.spinner.until(lambda: operator.announced, "it is announced where robots can fetch it from")
            assert operator.announced[0].uri == f"{url}/v1"
            verify_checkpoint(tmp_path / "store/v1", expect_sha256=operator.announced[0].sha256)


def test_failures_and_cancel_say_why_and_the_next_goal_works(tmp_path, monkeypatch):
    with trainer(tmp_path, monkeypatch) as (operator, node, root), node() as process:
        for deed, says in [
            ("crash", "exit code 1: ZeroDivisionError: no gradient"),
            ("die", "killed by SIGKILL"),
            ("error", "bags: no usable bag."),
        ]:
            status, result = operator.train(deed=deed)
            assert (status, result.success) == (GoalStatus.STATUS_ABORTED, False)
            assert says in result.message
        operator.spinner.until(lambda: operator.statuses[-1].state == TrainerStatus.ERROR, "the status of the error")

        status, result = operator.result(operator.send(overrides_json="[1]"))
        assert (status, result.message) == (
            GoalStatus.STATUS_ABORTED,
            "Goal: overrides_json = '[1]': expected a JSON object.",
        )

        operator.feedback.clear()
        handle = operator.send(overrides_json='{"deed": "hang"}')
        operator.spinner.until(lambda: any(f.phase == "hanging" for f in operator.feedback), "the child to work")
        status, result = operator.train()
        assert (status, result.message.split(";")[0]) == (GoalStatus.STATUS_ABORTED, "Training is already running")
        handle.cancel_goal_async()
        status, result = operator.result(handle)
        assert (status, result.message) == (GoalStatus.STATUS_CANCELED, "Training was cancelled.")
        pid = int((root / "child.pid").read_text())
        assert not Path(f"/proc/{pid}").exists()

        status, result = operator.train(version="v2")
        assert (status, result.version) == (GoalStatus.STATUS_SUCCEEDED, "v2")

        operator.feedback.clear()
        operator.send(overrides_json='{"deed": "stubborn"}')
        operator.spinner.until(lambda: any(f.phase == "hanging" for f in operator.feedback), "the child to work")
        pid = int((root / "child.pid").read_text())
        assert stop(process, timeout=15) == 0, (tmp_path / "log").read_text()
        assert not Path(f"/proc/{pid}").exists(), "the child outlived the node"

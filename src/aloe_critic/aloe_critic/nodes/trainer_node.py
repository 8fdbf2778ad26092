"""Serves training as an action and announces what it publishes; the work is done in a child process."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from aloe_msgs.action import Train
from aloe_msgs.msg import Checkpoint, TrainerStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from aloe_core.checkpoint import latest, manifest_sha256, verify_checkpoint
from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_critic.child import TrainingChild
from aloe_critic.upload import push
from aloe_ros import diagnostics, qos
from aloe_ros.node import run
from aloe_ros.parameters import declare

_STATUS_PERIOD = 0.2  # s between status messages while training
_CANCEL_PERIOD = 0.1  # s between looks at whether the goal is being cancelled


class TrainerNode(Node):
    """One training run at a time. Announces LATEST of `checkpoint_dir` at the start and after every success."""

    def __init__(self) -> None:
        super().__init__("trainer_node")
        self._contract_path = declare(self, "contract", "", "Path of the robot contract (YAML).")
        if not self._contract_path:
            raise AloeError("Node trainer_node: parameter contract is empty: expected the path of a robot contract.")
        self._contract = load_contract(self._contract_path)
        self._checkpoints = declare(self, "checkpoint_dir", "checkpoints", "Folder checkpoints are published to.")
        self._publish = declare(
            self,
            "publish_url",
            "",
            "URL that checkpoints are pushed to and announced under, e.g. s3://bucket/checkpoints; empty = none.",
        )
        self._bags = declare(self, "bag_dirs", ["bags"], "Folders of bags trained on when a goal names none.")
        self._method = declare(self, "method", "aloe_takeover", "Learner used when a goal names none.")
        self._replay = declare(self, "replay_dir", "", "Store of bags that were read; empty = read all every time.")
        self._gate = declare(self, "gate", "", "Thresholds (YAML) that an update must reach; empty = none.")
        self._held_out = declare(self, "held_out_dirs", [""], "Folders of bags that the gate judges by.")
        self._nice = declare(self, "nice", 5, "Niceness of the training process.", low=0, high=19)
        self._module = declare(self, "trainer_module", "aloe_critic.trainer", "Python module run as training process.")

        self._lock = threading.Lock()
        self._busy = False
        self._closing = False
        self._status = TrainerStatus()
        self._status_time = 0.0
        self._status_publisher = self.create_publisher(TrainerStatus, "trainer/status", qos.LATCHED)
        self._checkpoint_publisher = self.create_publisher(Checkpoint, "checkpoint", qos.LATCHED)
        self._diagnostics = diagnostics.Diagnostics(self, self._report)
        self._action = ActionServer(
            self,
            Train,
            "trainer/train",
            self._execute,
            goal_callback=lambda goal: GoalResponse.ACCEPT,  # a refusal here could not say why
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )
        self._announce_latest()

    def close(self) -> None:
        """End a running training process."""
        self._closing = True

    def _announce_latest(self) -> None:
        try:
            directory = latest(self._checkpoints)
            if directory is not None:
                self._announce(directory)
        except AloeError as error:
            self.get_logger().error(str(error))
            self._set_status(TrainerStatus.ERROR, detail=str(error))
            return
        self._set_status(TrainerStatus.IDLE, detail="waiting for a goal")

    def _announce(self, directory: Path) -> None:
        """Verify a checkpoint and announce it, where robots can fetch it from; AloeError if that does not go."""
        manifest = verify_checkpoint(directory, contract_hash=self._contract.hash)
        uri = push(directory, self._publish) if self._publish else str(directory.resolve())
        msg = Checkpoint(
            uri=uri,
            version=manifest.version,
            sha256=manifest_sha256(directory),
            step=manifest.step,
            parent=manifest.parent,
            method=manifest.method,
            metrics_json=json.dumps(manifest.metrics),
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._checkpoint_publisher.publish(msg)
        self.get_logger().info(f"Announced checkpoint {manifest.version}.")

    def _execute(self, goal: ServerGoalHandle) -> Train.Result:
        with self._lock:
            taken, self._busy = self._busy, True
        if taken:
            goal.abort()
            return Train.Result(message="Training is already running; wait for it or cancel it.")
        try:
            result = self._train(goal)
        except AloeError as error:
            return self._failed(goal, str(error))
        finally:
            with self._lock:
                self._busy = False
        goal.succeed()
        return result

    def _train(self, goal: ServerGoalHandle) -> Train.Result:
        """Run the child to its end; AloeError with the reason if there is no checkpoint."""
        request = self._request(goal.request)
        self._status = TrainerStatus(method=str(request["method"]))
        self._set_status(TrainerStatus.TRAINING, detail="starting")
        child = TrainingChild(request, self._module, self._nice)
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(goal, child, ended), name="training-cancel").start()
        outcome: dict = {}
        try:
            for event in child.events():
                if "result" in event:
                    outcome = event["result"]
                elif not self._closing:
                    self._progress(goal, event)
        finally:
            ended.set()
        self._announce(Path(outcome["uri"]))
        set_aside = outcome.get("set_aside", {})
        for bag, reason in set_aside.items():
            self.get_logger().warning(f"Set aside {bag}: {reason}")
        for note in outcome.get("notes", []):
            self.get_logger().warning(note)
        result = Train.Result(
            success=True,
            message=f"Published {outcome['version']}" + (f"; {len(set_aside)} bags set aside." if set_aside else "."),
            uri=outcome["uri"],
            version=outcome["version"],
            episodes=int(outcome["episodes"]),
            transitions=int(outcome["transitions"]),
            metrics_json=json.dumps(outcome["metrics"]),
        )
        self._status.episodes, self._status.transitions = result.episodes, result.transitions
        self._set_status(TrainerStatus.IDLE, detail=result.message)
        return result

    def _watch(self, goal: ServerGoalHandle, child: TrainingChild, ended: threading.Event) -> None:
        """Cancel the child once the goal is being cancelled, not before: until then the goal cannot end as such."""
        while not ended.wait(_CANCEL_PERIOD):
            if goal.is_cancel_requested or self._closing:
                child.cancel()

    def _request(self, goal: Train.Goal) -> dict[str, object]:
        try:
            overrides = json.loads(goal.overrides_json or "{}")
        except ValueError as error:
            raise AloeError(f"Goal: overrides_json is not valid JSON ({error}).") from error
        if not isinstance(overrides, dict):
            raise AloeError(f"Goal: overrides_json = {goal.overrides_json!r}: expected a JSON object.")
        return {
            "bag_dirs": list(goal.bag_dirs) or self._bags,
            "checkpoint_dir": self._checkpoints,
            "publish": self._publish,
            "contract": self._contract_path,
            "method": goal.method or self._method,
            "init": goal.init,
            "overrides": overrides,
            "replay_dir": self._replay,
            "gate": self._gate,
            "held_out": [folder for folder in self._held_out if folder],
        }

    def _progress(self, goal: ServerGoalHandle, event: dict) -> None:
        feedback = Train.Feedback(
            phase=str(event["phase"]),
            step=int(event["step"]),
            steps_total=int(event["steps_total"]),
            loss=float(event["loss"]),
        )
        goal.publish_feedback(feedback)
        self._status.step, self._status.steps_total = feedback.step, feedback.steps_total
        if time.monotonic() - self._status_time >= _STATUS_PERIOD:
            self._set_status(TrainerStatus.TRAINING, detail=feedback.phase)

    def _failed(self, goal: ServerGoalHandle, why: str) -> Train.Result:
        if self._closing:
            return Train.Result(message=why)
        if goal.is_cancel_requested:
            goal.canceled()
            self._set_status(TrainerStatus.IDLE, detail=why)
        else:
            goal.abort()
            self.get_logger().error(why)
            self._set_status(TrainerStatus.ERROR, detail=why)
        return Train.Result(message=why)

    def _set_status(self, state: int, detail: str) -> None:
        self._status.state, self._status.detail = state, detail
        self._status.header.stamp = self.get_clock().now().to_msg()
        self._status_time = time.monotonic()
        self._status_publisher.publish(self._status)

    def _report(self) -> diagnostics.Report:
        status = self._status
        level = diagnostics.ERROR if status.state == TrainerStatus.ERROR else diagnostics.OK
        return level, status.detail, {"method": status.method, "step": status.step, "steps_total": status.steps_total}


def main() -> None:
    sys.exit(run(TrainerNode, threads=4, close=TrainerNode.close))


if __name__ == "__main__":
    main()

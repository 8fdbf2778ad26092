"""Station, policy, recorder and person at their topics, for tests of the episode_manager and arbiter processes."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import rclpy
from aloe_msgs.action import RunEpisodes
from aloe_msgs.msg import ActionChunk, ControlMode, EpisodeEvent, Task, TeleopCommand
from aloe_msgs.srv import (
    DiscardEpisode,
    LabelEpisode,
    ResetEstop,
    ResetStation,
    StartEpisode,
    StartRecording,
    StopEpisode,
    StopRecording,
)
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from aloe_core.contract import load_contract
from aloe_core.types import Chunk, Inference
from aloe_ros import qos, stamps
from aloe_ros.convert import chunk_to_msg, joint_state_msg
from aloe_ros.testing import Spinner, node_process

CONTRACT_FILE = Path(__file__).parents[3] / "config/robots/aloha_sim.yaml"
CONTRACT = load_contract(CONTRACT_FILE)
DT = 20_000_000
_numbers = count()
HOME = (CONTRACT.lower + CONTRACT.upper) / 2


class World(Node):
    """A station in lock-step, a policy that stands still, a recorder that keeps nothing; `plan` acts at steps."""

    def __init__(self) -> None:
        super().__init__(f"world_{next(_numbers)}")  # a node of the same name that has gone may still be discovered
        self.k = self.origin = 0
        self.origins: list[int] = []
        self.plan = lambda step: None
        self.recorder_refuses = ""
        self.quality = ""  # what the recorder says of a take's quality
        self.scripts = 0  # runs of the robot's reset script
        self.recorded: list[tuple] = []
        self.events: list[EpisodeEvent] = []
        self.modes: list[ControlMode] = []
        self.tasks: list[Task] = []
        self.joints = self.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        self.chunks = self.create_publisher(ActionChunk, "policy/action_chunk", qos.COMMAND)
        self.joy = self.create_publisher(Joy, "joy", qos.DEFAULT)
        self.teleop = self.create_publisher(TeleopCommand, "teleop/command", qos.COMMAND)
        self.create_subscription(JointTrajectory, "command/joint_trajectory", self._on_command, qos.COMMAND)
        self.create_subscription(ControlMode, "control/mode", self._on_mode, qos.LATCHED)
        self.create_subscription(EpisodeEvent, "episode/event", self.events.append, qos.COMMAND)
        self.create_subscription(Task, "task", self.tasks.append, qos.LATCHED)
        self.create_service(ResetStation, "station/reset", self._on_reset)
        self.create_service(Trigger, "station/reset_script", self._on_script)
        self.create_service(StartRecording, "recorder/start", self._on_start)
        self.create_service(StopRecording, "recorder/stop", self._on_stop)
        self.labels = self.create_client(LabelEpisode, "episode/label")
        self.reset_estop = self.create_client(ResetEstop, "control/reset_estop")
        self.go = self.create_client(Trigger, "episode_manager/continue")
        self.start = self.create_client(StartEpisode, "episode/start")
        self.stop = self.create_client(StopEpisode, "episode/stop")
        self.discard = self.create_client(DiscardEpisode, "episode/discard")
        self.reset = self.create_client(ResetStation, "episode/reset")
        self.action = ActionClient(self, RunEpisodes, "episodes/run")
        self.label_answers: deque = deque()

    def _on_reset(self, request, response):
        response.success = request.task == "sorting"
        response.message = "" if response.success else f"no task {request.task}"
        response.instruction, response.time_limit = "sort", 0.4
        self.origin = self.k = self.k + 50
        self.origins.append(self.origin)
        self._observe()
        return response

    def _on_script(self, _request, response):
        self.scripts += 1
        response.success = True
        return response

    def _observe(self) -> None:
        self.joints.publish(joint_state_msg(CONTRACT, self.k * DT, HOME))
        self._infer()
        if self.k > self.origin:
            self.plan(self.k - self.origin)

    def _infer(self) -> None:
        driving = self.modes and self.modes[-1].mode == ControlMode.POLICY
        if driving and (self.k - self.origin) % 25 == 0:
            chunk = Chunk(f"c{self.k}", self.k * DT, CONTRACT.dt, np.tile(HOME.astype(np.float32), (50, 1)), 25, "v1")
            self.chunks.publish(chunk_to_msg(Inference(chunk, None, 1, 0.0), CONTRACT))

    def _on_command(self, msg: JointTrajectory) -> None:
        if stamps.to_ns(msg.header.stamp) == self.k * DT:
            self.k += 1
            self._observe()

    def _on_mode(self, msg: ControlMode) -> None:
        self.modes.append(msg)
        self._infer()

    def _on_start(self, request, response):
        self.recorded.append(("start", request))
        response.success, response.message = not self.recorder_refuses, self.recorder_refuses
        response.path = f"/bags/{request.episode_id}.partial"
        return response

    def _on_stop(self, request, response):
        self.recorded.append(("stop", request))
        folder = "/bags/trash" if request.discard else "/bags"
        response.success, response.path = True, f"{folder}/{request.episode_id}"
        response.message = self.quality
        return response

    def label(self, outcome: int) -> None:
        request = LabelEpisode.Request(outcome=outcome, stamp=stamps.to_msg(self.k * DT))
        self.labels.call_async(request).add_done_callback(lambda future: self.label_answers.append(future.result()))

    def press(self, *buttons: int) -> None:
        """Buttons of joy that are down now."""
        self.joy.publish(Joy(buttons=[int(k in buttons) for k in range(12)]))

    def estop(self, held: bool) -> None:
        buttons = [0] * 8
        buttons[CONTRACT.takeover.estop_button] = int(held)
        self.joy.publish(Joy(buttons=buttons))


@contextmanager
def running(logs: Path, **parameters) -> Iterator[tuple["World", Spinner]]:
    """World, spinner and both processes; `parameters` are the manager's."""
    given = {"contract": CONTRACT_FILE, "lockstep": True}
    rclpy.init()
    world = World()
    spinner = Spinner(world)
    with (
        node_process("aloe_teleop.nodes.arbiter_node", given, logs / "arbiter"),
        node_process("aloe_teleop.nodes.episode_manager", {**given, **parameters}, logs / "manager"),
    ):
        spinner.until(world.action.server_is_ready, "the action server is there")
        spinner.until(lambda: world.modes, "the arbiter says its mode")
        outputs = (world.joints, world.chunks, world.joy, world.teleop)
        spinner.until(lambda: all(p.get_subscription_count() for p in outputs), "the arbiter listens")
        yield world, spinner
    spinner.close()
    world.destroy_node()
    rclpy.shutdown()


def send(graph, **goal):
    world, spinner = graph
    world.plan = goal.pop("plan", lambda step: None)
    del world.recorded[:], world.events[:], world.tasks[:], world.modes[:-1]
    request = RunEpisodes.Goal(**{"task": "sorting", "level": "easy", "supervision": "watch", **goal})
    future = world.action.send_goal_async(request)
    spinner.until(future.done, "the goal is accepted")
    return future.result()


def finish(graph, handle) -> RunEpisodes.Result:
    future = handle.get_result_async()
    graph[1].until(future.done, "the goal ends")
    return future.result().result

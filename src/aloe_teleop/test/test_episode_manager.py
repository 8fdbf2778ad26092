"""episode_manager and arbiter as real processes; the test is station, policy, recorder and person at their topics."""

from collections import deque
from pathlib import Path

import numpy as np
import pytest
import rclpy
from aloe_msgs.action import RunEpisodes
from aloe_msgs.msg import ActionChunk, ControlMode, EpisodeEvent, Task, TeleopCommand
from aloe_msgs.srv import LabelEpisode, ResetEstop, ResetStation, StartRecording, StopRecording
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
HOME = (CONTRACT.lower + CONTRACT.upper) / 2


class World(Node):
    """A station in lock-step, a policy that stands still, a recorder that keeps nothing; `plan` acts at steps."""

    def __init__(self) -> None:
        super().__init__("world")
        self.k = self.origin = 0
        self.origins: list[int] = []
        self.plan = lambda step: None
        self.recorder_refuses = ""
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
        self.create_service(StartRecording, "recorder/start", self._on_start)
        self.create_service(StopRecording, "recorder/stop", self._on_stop)
        self.labels = self.create_client(LabelEpisode, "episode/label")
        self.reset_estop = self.create_client(ResetEstop, "control/reset_estop")
        self.go = self.create_client(Trigger, "episode_manager/continue")
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
        response.success, response.path = True, f"/bags/{request.episode_id}"
        return response

    def label(self, outcome: int) -> None:
        request = LabelEpisode.Request(outcome=outcome, stamp=stamps.to_msg(self.k * DT))
        self.labels.call_async(request).add_done_callback(lambda future: self.label_answers.append(future.result()))

    def estop(self, held: bool) -> None:
        buttons = [0] * 8
        buttons[CONTRACT.takeover.estop_button] = int(held)
        self.joy.publish(Joy(buttons=buttons))


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """World, spinner and both processes; one graph for the module, since discovery costs seconds."""
    logs = tmp_path_factory.mktemp("logs")
    given = {"contract": CONTRACT_FILE, "lockstep": True}
    rclpy.init()
    world = World()
    spinner = Spinner(world)
    with (
        node_process("aloe_teleop.nodes.arbiter_node", given, logs / "arbiter"),
        node_process("aloe_teleop.nodes.episode_manager", {**given, "operator_name": "op"}, logs / "manager"),
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


def test_labels_end_episodes_and_the_time_limit_truncates_in_steps(graph):
    world, spinner = graph

    def plan(step):
        if step == 12 and len(world.recorded) == 1:
            world.label(EpisodeEvent.OUTCOME_SUCCESS)

    result = finish(graph, send(graph, seeds=[7, 8], plan=plan))
    assert result.success and result.message == "2 episodes, 1 successes."
    assert list(result.outcomes) == [EpisodeEvent.OUTCOME_SUCCESS, EpisodeEvent.OUTCOME_NONE]
    assert list(result.steps) == [12, 20] and list(result.lengths) == pytest.approx([0.24, 0.4])
    assert list(result.intervention_steps) == [0, 0]
    assert result.paths == [f"/bags/{i}" for i in result.episode_ids]
    assert sorted(result.episode_ids) == result.episode_ids and len(set(result.episode_ids)) == 2

    (_, start), (_, stop), _, (_, second) = world.recorded
    assert (start.seed, start.instruction, start.operator_name) == (7, "sort", "op")
    assert (stop.end, stop.outcome) == ("terminated", EpisodeEvent.OUTCOME_SUCCESS)
    assert stamps.to_ns(stop.label_stamp) == (world.origins[-2] + 12) * DT
    assert stamps.to_ns(second.label_stamp) == (world.origins[-1] + 20) * DT
    assert second.end == "truncated" and "time limit of 0.4 s" in second.reason
    spinner.until(lambda: world.tasks and world.tasks[-1].episode_id == "", "the task is cleared")
    assert world.modes[-1].mode == ControlMode.RESET
    kinds = [event.event for event in world.events if event.episode_id == result.episode_ids[0]]
    assert kinds == [EpisodeEvent.STARTED, EpisodeEvent.LABELLED, EpisodeEvent.STOPPED]


def test_a_demonstration_starts_with_the_takeover_and_has_no_other_steps(graph):
    world, spinner = graph

    def plan(step):
        drive()
        if step == 10:
            world.label(EpisodeEvent.OUTCOME_SUCCESS)

    def drive():
        msg = TeleopCommand(engaged=True, joint_names=CONTRACT.joint_names, positions=HOME.tolist())
        stamps.fill(msg.header.stamp, world.k * DT)
        world.teleop.publish(msg)

    handle = send(graph, seeds=[1], supervision="demonstrate", plan=plan)
    spinner.until(lambda: any(e.event == EpisodeEvent.STARTED for e in world.events), "the episode starts")
    drive()
    result = finish(graph, handle)
    world.teleop.publish(TeleopCommand(engaged=False))
    assert (list(result.steps), list(result.intervention_steps)) == ([10], [10])
    modes = [m.mode for m in world.modes]
    assert ControlMode.HOLD not in modes and ControlMode.POLICY not in modes[1:]


def test_an_estop_aborts_the_run_and_the_bag_says_so(graph):
    world, spinner = graph
    result = finish(graph, send(graph, seeds=[1, 2], plan=lambda step: world.estop(True) if step == 5 else None))
    assert not result.success and "e-stop" in result.message
    assert list(result.outcomes) == [EpisodeEvent.OUTCOME_ABORTED]
    assert world.recorded[-1][1].end == "aborted"
    assert world.modes[-1].mode == ControlMode.ESTOP
    refused = finish(graph, send(graph, seeds=[1]))
    assert "e-stop is latched" in refused.message and not world.recorded
    world.estop(False)

    def cleared():
        return spinner.call(world.reset_estop, ResetEstop.Request()).success

    spinner.until(cleared, "the e-stop is reset")


def test_a_recorder_that_cannot_start_ends_the_goal_with_its_reason(graph):
    world, _ = graph
    world.recorder_refuses = "disk full."
    result = finish(graph, send(graph, seeds=[1, 2]))
    world.recorder_refuses = ""
    assert result.message == "Recorder did not start: disk full."
    assert list(result.outcomes) == [EpisodeEvent.OUTCOME_ABORTED] and list(result.steps) == [0]
    assert [what for what, _ in world.recorded] == ["start"]
    assert world.modes[-1].mode == ControlMode.RESET


def test_cancelling_stops_the_recorder_and_reports_the_episode_as_aborted(graph):
    world, spinner = graph
    handle = send(graph, seeds=[1, 2, 3], time_limit=1000.0)
    spinner.until(lambda: world.modes[-1].mode == ControlMode.POLICY, "the policy drives")
    future = handle.cancel_goal_async()
    spinner.until(future.done, "the cancel is accepted")
    result = finish(graph, handle)
    assert result.message == "Cancelled after 1 of 3 episodes."
    assert world.recorded[-1][0] == "stop" and world.recorded[-1][1].outcome == EpisodeEvent.OUTCOME_ABORTED


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ({"supervision": "alone"}, "expected one of demonstrate, supervise, watch"),
        ({"task": "juggling"}, "Station reset failed: no task juggling"),
        ({"time_limit": -1.0}, "expected seconds"),
    ],
)
def test_a_goal_that_cannot_be_run_ends_with_one_sentence(graph, goal, says):
    result = finish(graph, send(graph, **{"seeds": [1], **goal}))
    assert not result.success and says in result.message
    assert not graph[0].recorded


def test_a_label_without_an_episode_is_refused(graph):
    world, spinner = graph
    answer = spinner.call(world.labels, LabelEpisode.Request(outcome=1))
    assert answer.message == "Label refused: no episode is running."

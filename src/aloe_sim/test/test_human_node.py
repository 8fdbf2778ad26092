from itertools import pairwise

import numpy as np
import pytest
from aloe_msgs.msg import ControlMode, EpisodeEvent, Task
from aloe_msgs.srv import LabelEpisode
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Header

from aloe_ros import qos, stamps
from aloe_ros.testing import Spinner
from aloe_sim.expert import Expert
from aloe_sim.nodes import privileged
from aloe_sim.station import Station
from robot_side import ROBOT, Arbiter, running

DT = round(ROBOT.dt * 1e9)
DEADMAN = ROBOT.takeover.deadman_button


class Stage:
    """Episode manager, arbiter and takeover node by hand, around a real simulator and a real scripted human."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.joy, self.leader, self.labels = [], [], []
        self.task = node.create_publisher(Task, "task", qos.LATCHED)
        self.event = node.create_publisher(EpisodeEvent, "episode/event", qos.COMMAND)
        self.grants_takeovers = True
        self.mode = node.create_publisher(ControlMode, "control/mode", qos.LATCHED)
        node.create_subscription(Joy, "joy", self._on_joy, qos.DEFAULT)
        node.create_subscription(JointState, "leader/joint_states", self.leader.append, qos.DEFAULT)
        node.create_service(LabelEpisode, "episode/label", self._on_label)
        self.robot = Arbiter(node)
        self.until, self.call = self.robot.until, self.robot.call
        self.until(
            lambda: (
                self.task.get_subscription_count()
                and self.event.get_subscription_count()
                and node.count_publishers("joy")
                and node.count_publishers("leader/joint_states")
                and node.count_clients("episode/label")
            ),
            "the scripted human",
        )

    def _on_joy(self, msg: Joy) -> None:
        self.joy.append(msg)
        if self.grants_takeovers:
            self.mode.publish(ControlMode(mode=ControlMode.HUMAN if self.held else ControlMode.HOLD))

    def _on_label(self, request, response):
        self.labels.append(request)
        response.success = True
        return response

    def begin(self, episode_id: str, supervision: str, seed: int, *, announced: bool = True) -> int:
        """Start an episode and return the stamp of its reset state."""
        count = len(self.robot.joints)
        assert self.robot.reset(seed).success
        self.robot.until_joints(count + 1)
        self.task.publish(Task(task="sorting", episode_id=episode_id, seed=seed, supervision=supervision))
        if announced:
            self.event.publish(EpisodeEvent(event=EpisodeEvent.STARTED, episode_id=episode_id))
        return self.robot.stamp

    def end(self) -> None:
        self.task.publish(Task(task="sorting"))

    def follow_leader(self) -> None:
        """Execute what the leader says until there is a label."""
        while not self.labels:
            self.until(lambda: self.labels or self.answered(), "the leader or a label")
            if self.answered() and not self.labels:
                self.robot.step(self.leader[-1].position)

    def answered(self) -> bool:
        return bool(self.leader) and stamps.to_ns(self.leader[-1].header.stamp) == self.robot.stamp

    @property
    def held(self) -> bool:
        return bool(self.joy) and self.joy[-1].buttons[DEADMAN] == 1


@pytest.fixture
def stage(tmp_path):
    with running(tmp_path, "sim_node", "scripted_human", lockstep=True) as node:
        yield Stage(node)


def test_a_demonstration_drives_from_the_reset_state_to_a_success_label_and_then_keeps_still(stage):
    for episode, seed in (("first", 3), ("second", 3)):
        joy, leader = len(stage.joy), len(stage.leader)
        start = stage.begin(episode, "demonstrate", seed)
        stage.follow_leader()
        label = stage.labels.pop()
        assert (label.episode_id, label.outcome) == (episode, EpisodeEvent.OUTCOME_SUCCESS)
        end = stamps.to_ns(label.stamp)
        assert end == stage.robot.stamp

        driven = [stamps.to_ns(m.header.stamp) for m in stage.leader[leader:]]
        assert driven == list(range(start, end, DT))
        held = [(stamps.to_ns(m.header.stamp), m.buttons[DEADMAN]) for m in stage.joy[joy:]]
        assert held[0] == (start, 1)
        assert all(pressed for _, pressed in held)
        assert max(b[0] - a[0] for a, b in pairwise(held)) <= 100_000_000
        stage.end()
        stage.until(lambda: not stage.held, "the dead-man to be released")
    first, second = (stage.leader[: len(stage.leader) // 2], stage.leader[len(stage.leader) // 2 :])
    np.testing.assert_array_equal([m.position for m in first], [m.position for m in second])


def test_a_watcher_labels_with_the_stamp_at_which_success_was_first_true_and_never_drives(stage):
    stage.begin("watched", "watch", 4)
    mirror = Station(ROBOT, render=False)
    mirror.reset(4)
    expert = Expert(mirror)
    first = None
    while not stage.labels:
        command = expert.act()
        mirror.step(command)
        stage.robot.step(command)
        if mirror.success and first is None:
            first = stage.robot.stamp
        assert first is None or stage.robot.stamp < first + 50 * DT, "no label a second after success"
    assert stamps.to_ns(stage.labels[0].stamp) == first
    assert stage.leader == []
    assert stage.joy == []


def test_a_supervisor_takes_over_a_robot_that_stands_still_and_finishes_the_task(stage):
    stage.begin("stuck", "supervise", 5)
    home = stage.robot.joints[-1].position
    while not stage.held:
        stage.robot.step(home)
    while not stage.labels:
        stage.until(lambda: stage.labels or stage.answered() or not stage.held, "the leader, a label or a release")
        if not stage.held:
            stage.robot.step(stage.robot.joints[-1].position)
        elif stage.answered() and not stage.labels:
            stage.robot.step(stage.leader[-1].position)
    assert stage.labels[0].outcome == EpisodeEvent.OUTCOME_SUCCESS


def test_lockstep_waits_until_the_person_knows_of_the_episode_that_the_policy_already_drives(stage):
    robot = stage.robot
    stage.begin("early", "supervise", 5, announced=False)
    home, start = robot.joints[-1].position, robot.stamp
    while not robot.waits_for_a_person_after(home):
        assert robot.stamp <= start + privileged.AHEAD * DT, "states go by unseen"
    stage.event.publish(EpisodeEvent(event=EpisodeEvent.STARTED, episode_id="early"))
    robot.until_joints(len(robot.joints) + 1)
    while not stage.held:
        assert len(robot.joints) < 200, "a reaction takes simulated time"
        robot.step(home)


def test_lockstep_waits_for_a_person_who_is_behind_and_not_for_one_who_is_gone(tmp_path):
    with running(tmp_path, "sim_node", lockstep=True) as node:
        robot = Arbiter(node)
        seen = node.create_publisher(Header, "sim/seen", privileged.SEEN)
        robot.until(seen.get_subscription_count, "the simulator to listen")
        assert robot.reset(1).success
        robot.until_joints(1)
        start, home = robot.stamp, robot.joints[-1].position
        seen.publish(Header(stamp=stamps.to_msg(start)))
        for _ in range(2):
            for _ in range(privileged.AHEAD):
                robot.step(home)
            assert robot.waits_for_a_person_after(home)
            seen.publish(Header(stamp=stamps.to_msg(robot.stamp)))
            robot.until_joints(len(robot.joints) + 1)
            seen.publish(Header(stamp=stamps.to_msg(robot.stamp)))
        assert robot.stamp == start + 2 * (privileged.AHEAD + 1) * DT, "each time as far ahead as it may"
        for _ in range(privileged.AHEAD):
            robot.step(home)
        assert robot.waits_for_a_person_after(home)
        node.destroy_publisher(seen)
        robot.until_joints(len(robot.joints) + 1)


def test_a_supervisor_who_missed_the_beginning_says_so_and_takes_over(tmp_path):
    station = Station(ROBOT, render=False)
    station.reset(1)
    message = privileged.message(privileged.Key(station.task_name, station.level, station.variant))
    for _ in range(80):
        station.step(station.home)
    with running(tmp_path, "scripted_human", lockstep=True) as node:
        spinner = Spinner(node)
        joy, seen, known = [], [], []

        def hear(msg: DiagnosticArray) -> None:
            mine = (s for s in msg.status if s.name == f"{node.get_namespace()}/scripted_human")
            known.extend(value.value for status in mine for value in status.values if value.key == "episode")

        node.create_subscription(DiagnosticArray, "/diagnostics", hear, qos.DEFAULT)
        node.create_subscription(Joy, "joy", joy.append, qos.DEFAULT)
        node.create_subscription(JointState, "leader/joint_states", lambda _: None, qos.DEFAULT)
        node.create_subscription(Header, "sim/seen", seen.append, privileged.SEEN)
        states = node.create_publisher(type(message), "sim/state", privileged.QOS)
        task = node.create_publisher(Task, "task", qos.LATCHED)
        event = node.create_publisher(EpisodeEvent, "episode/event", qos.COMMAND)
        spinner.until(lambda: all(p.get_subscription_count() for p in (states, task, event)), "the person at the robot")
        spinner.until(lambda: node.count_publishers("joy") and node.count_publishers("sim/seen"), "the person's hands")
        task.publish(Task(task="sorting", episode_id="late", seed=1, supervision="supervise"))
        spinner.until(lambda: "late" in known, "the person to know of the episode")
        privileged.fill(message, station.stamp, station)
        states.publish(message)
        spinner.until(lambda: seen, "the person to let a running episode go on that nobody announces")
        event.publish(EpisodeEvent(event=EpisodeEvent.STARTED, episode_id="late"))
        while not joy:
            assert station.tick < 400, "nobody took over"
            privileged.fill(message, station.stamp, station)
            states.publish(message)
            spinner.until(lambda: seen and stamps.to_ns(seen[-1].stamp) == station.stamp, "the person to look")
            station.step(station.home)
        spinner.close()
    assert "Came late: the first 80 states" in (tmp_path / "scripted_human.log").read_text()


def test_the_person_waits_until_the_episode_has_started(stage):
    assert stage.robot.reset(1).success
    stage.robot.until_joints(1)
    stage.until(lambda: stage.robot.states, "the reset state")
    stage.task.publish(Task(task="sorting", episode_id="early", seed=1, supervision="demonstrate"))
    probe = stage.node.create_client(GetParameters, "scripted_human/get_parameters")
    stage.call(probe, GetParameters.Request())  # its answer comes after what was sent before
    assert stage.joy == []
    stage.event.publish(EpisodeEvent(event=EpisodeEvent.STARTED, episode_id="early"))
    stage.until(lambda: stage.held and stage.answered(), "the takeover")
    assert privileged.read(stage.robot.states[-1]).tick == 0


@pytest.mark.parametrize("granted", [True, False], ids=["granted", "refused"])
def test_a_takeover_that_moves_nothing_is_let_go_and_tried_again(stage, granted):
    stage.grants_takeovers = granted
    start = stage.begin("refused", "demonstrate", 1)
    stage.until(lambda: len(stage.joy) >= 3, "the second press")
    assert [m.buttons[DEADMAN] for m in stage.joy] == [1, 0, 1]
    stage.until(lambda: len(stage.leader) == 2, "the leader again")
    assert {stamps.to_ns(m.header.stamp) for m in stage.leader} == {start}


def test_on_the_wall_clock_the_person_looks_at_the_newest_state_and_never_falls_behind(tmp_path):
    """60 states come while the person is still building the station in mind; on the wall clock 59 of them are past."""
    station = Station(ROBOT, render=False)
    station.reset(1)
    message = privileged.message(privileged.Key(station.task_name, station.level, station.variant))
    with running(tmp_path, "scripted_human", lockstep=False) as node:
        spinner = Spinner(node)
        seen = []
        node.create_subscription(JointState, "leader/joint_states", seen.append, qos.DEFAULT)
        states = node.create_publisher(type(message), "sim/state", privileged.QOS)
        task = node.create_publisher(Task, "task", qos.LATCHED)
        event = node.create_publisher(EpisodeEvent, "episode/event", qos.COMMAND)
        spinner.until(lambda: all(p.get_subscription_count() for p in (states, task, event)), "the person at the robot")
        task.publish(Task(task="sorting", episode_id="busy", seed=1, supervision="demonstrate"))
        event.publish(EpisodeEvent(event=EpisodeEvent.STARTED, episode_id="busy"))
        for _ in range(60):
            privileged.fill(message, station.stamp, station)
            states.publish(message)
            station.step(station.home)
        newest = station.stamp - DT
        spinner.until(lambda: seen and stamps.to_ns(seen[-1].header.stamp) == newest, "the newest state to be answered")
        assert len(seen) < 10, "what is past is not answered"
        spinner.close()

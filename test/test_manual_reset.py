"""`reset:=manual` on the simulated station: nothing moves until the operator says so, then the seed's start state."""

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from aloe_core.episode.data import Outcome
from aloe_sim.nodes import privileged
from aloe_sim.station import Station
from graph import DEMONSTRATED, Graph, robot

SEEDS = [DEMONSTRATED, DEMONSTRATED + 1]


@pytest.mark.slow
@pytest.mark.parametrize("clock", [{"lockstep": "true"}, {"lockstep": "false", "real_time_factor": "2.0"}])
def test_every_episode_waits_for_the_operator_and_begins_with_its_seed(tmp_path, clock):
    graph = Graph(tmp_path, reset="manual", **clock)
    try:
        seen, waiting, states = [], [], []
        every = QoSProfile(depth=10_000, durability=privileged.QOS.durability)  # none may be lost
        graph.node.create_subscription(Float64MultiArray, "sim/state", states.append, every)
        graph.node.create_subscription(JointState, "joint_states", seen.append, 10)
        graph.node.create_subscription(
            DiagnosticArray,
            "/diagnostics",
            lambda msg: waiting.extend(s for s in msg.status if s.message == "waiting for ~/continue"),
            10,
        )
        go = graph.node.create_client(Trigger, "episode_manager/continue")
        early = graph.call(go, Trigger.Request())
        assert not early.success and early.message == "Nothing waits to continue."
        result = graph.begin("demonstrate", SEEDS)
        for episode in range(2):
            waiting.clear()
            graph.until(lambda: waiting, f"episode {episode} waits for the operator")
            assert waiting[0].level == DiagnosticStatus.WARN
            assert not result.done()
            assert episode or not seen, "not reset before"
            assert graph.call(go, Trigger.Request()).success
        graph.until(result.done, "both episodes are done", timeout=240.0)
        answer = result.result()
        assert answer.status == GoalStatus.STATUS_SUCCEEDED, answer.result.message
        station = Station(robot(), "sorting", "easy", render=False)
        begun = [state.snapshot for state in map(privileged.read, states) if state.tick == 0]
        for seed in SEEDS:
            station.reset(seed)
            assert any(np.array_equal(station.snapshot(), snapshot) for snapshot in begun), seed
        if clock["lockstep"] == "true":  # else a person who has too little of the machine comes too late to succeed
            assert list(answer.result.outcomes) == [Outcome.SUCCESS] * 2
    finally:
        assert graph.close() == 0

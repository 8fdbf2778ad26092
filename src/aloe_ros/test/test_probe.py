import pytest
import rclpy
from aloe_msgs.srv import ResetEstop
from rclpy.node import Node

from aloe_ros.probe import Probe
from aloe_ros.testing import Spinner


@pytest.fixture
def nodes():
    rclpy.init()
    nodes = Node("asker"), Node("server", namespace="/robot")
    yield nodes
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def test_a_probe_is_done_only_when_the_node_of_the_service_has_answered(nodes):
    asker, server = nodes
    server.create_service(ResetEstop, "reset", lambda request, response: response)
    absent, present = Probe(asker, "/robot/nothing"), Probe(asker, "/robot/reset")
    spinner = Spinner(asker, server)
    alone = Spinner(asker)
    assert not present.done()
    alone.until(lambda: asker.count_services("/robot/reset"), "the service is seen")
    for _ in range(20):  # the server does not spin: nobody can answer
        assert not present.done()
        alone.executor.spin_once(timeout_sec=0.01)
    alone.executor.remove_node(asker)
    spinner.executor.add_node(asker)
    spinner.until(present.done, "the server answers")
    assert not absent.done()
    assert present.done()
    before = list(asker.clients)
    assert all("get_parameters" not in client.srv_name for client in before)

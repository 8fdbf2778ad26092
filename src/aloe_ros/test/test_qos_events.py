import pytest
import rclpy
from aloe_msgs.msg import Task
from rclpy.node import Node

from aloe_ros import qos
from aloe_ros.node import drop_qos_events
from aloe_ros.testing import Spinner


@pytest.fixture
def node():
    rclpy.init()
    node = Node("quiet")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def test_a_node_without_qos_events_has_nothing_else_in_its_wait_set_and_still_hears(node):
    heard = []
    publisher = node.create_publisher(Task, "task", qos.LATCHED)
    subscription = node.create_subscription(Task, "task", heard.append, qos.LATCHED)
    assert list(node.waitables)
    drop_qos_events(node)
    assert list(node.waitables) == []
    publisher.publish(Task(task="sorting"))
    spinner = Spinner(node)
    spinner.until(lambda: heard, "the message")
    spinner.close()
    node.destroy_subscription(subscription)
    node.destroy_publisher(publisher)

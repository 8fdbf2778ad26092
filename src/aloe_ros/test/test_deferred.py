"""Services whose callbacks are coroutines, in an executor that takes what a callback returns for the answer."""

import threading
import time

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future
from std_srvs.srv import Trigger

from aloe_ros.deferred import answer_later
from aloe_ros.node import EventsExecutor


@pytest.fixture
def node():
    rclpy.init()
    node = rclpy.create_node("deferred")
    yield node
    node.destroy_node()
    rclpy.shutdown()


def served(node, executor, callback, crashed, calls=2):
    """Serve `calls` calls of the service at once and return their futures, done or not after a while."""
    answer_later(node, node.create_service(Trigger, "late", callback), crashed.append)
    client = node.create_client(Trigger, "late")
    executor.add_node(node)
    deadline = time.monotonic() + 20
    while not client.service_is_ready() and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    futures = [client.call_async(Trigger.Request()) for _ in range(calls)]
    while not crashed and not all(future.done() for future in futures) and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)
    return futures


@pytest.mark.parametrize("executor", [EventsExecutor, SingleThreadedExecutor])
def test_an_answer_comes_when_a_thread_is_done(node, executor):
    callers = []

    async def late(_, response):
        future = Future(executor=node.executor)
        future.add_done_callback(lambda _: None)
        threading.Thread(target=lambda: future.set_result(threading.current_thread().name)).start()
        callers.append(await future)
        response.success, response.message = True, "late"
        return response

    crashed = []
    futures = served(node, executor(), late, crashed)
    assert [(f.result().success, f.result().message) for f in futures] == [(True, "late")] * 2
    assert crashed == [] and threading.current_thread().name not in callers


@pytest.mark.skipif(EventsExecutor is SingleThreadedExecutor, reason="rclpy has no EventsExecutor")
def test_what_a_coroutine_raises_is_handed_over_and_the_process_lives(node):
    async def broken(_, response):
        raise RuntimeError("broken")

    crashed = []
    served(node, EventsExecutor(), broken, crashed, calls=1)
    assert [str(error) for error in crashed] == ["broken"]


def test_a_plain_callback_answers_at_once(node):
    def plain(_, response):
        response.message = "now"
        return response

    (future,) = served(node, EventsExecutor(), plain, [], calls=1)
    assert future.result().message == "now"

"""The life of a node: lifecycle base class and the `main()` of every entry point."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from aloe_core.errors import AloeError
from aloe_ros.parameters import declare

try:
    from rclpy.experimental import EventsExecutor
except ImportError:  # rclpy before 7.1.4
    EventsExecutor = SingleThreadedExecutor

NodeT = TypeVar("NodeT", bound=Node)
HEARING = 0.1  # s; a signal is heard so late at most


class AloeLifecycleNode(LifecycleNode):
    """A lifecycle node; subclasses override configure, activate, deactivate and cleanup, which may raise AloeError.

    With `autostart` (default) `run` configures and activates it, so no manager is needed. rclpy swallows exceptions
    of transition callbacks; here an AloeError is logged, the transition fails, and under autostart the node ends.
    """

    def __init__(self, name: str, **kwargs) -> None:
        super().__init__(name, **kwargs)
        self.failure: Exception | None = None
        self.autostart = declare(
            self,
            "autostart",
            True,
            "Configure and activate without a lifecycle manager.",
        )

    def configure(self) -> None:
        """Create publishers, subscriptions and the objects behind them."""

    def activate(self) -> None:
        """Begin to act."""

    def deactivate(self) -> None:
        """Stop acting, keep everything configured."""

    def cleanup(self) -> None:
        """Undo `configure`; also called at shutdown."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self.configure) or super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self.activate) or super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self.deactivate) or super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self.cleanup) or super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._guarded(self.cleanup) or super().on_shutdown(state)

    def start(self) -> None:
        """Configure and activate; raises what the transition raised."""
        for transition in (self.trigger_configure, self.trigger_activate):
            transition()
            if self.failure is not None:
                raise self.failure

    def _guarded(self, step: Callable[[], None]) -> TransitionCallbackReturn | None:
        self.failure = None
        try:
            step()
        except AloeError as error:
            self.get_logger().error(str(error))
            self.failure = error
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001  rclpy would drop it without a word; `start` raises it again
            self.get_logger().fatal(f"{step.__qualname__}: {error!r}")
            self.failure = error
            return TransitionCallbackReturn.ERROR
        return None


def drop_qos_events(node: Node) -> None:
    """Stop watching for QoS events of the endpoints that exist now.

    rclpy builds its wait set anew for every message, and two events an endpoint are a fifth of the CPU time of a node
    in lock-step. What they warn of, mixed-up QoS, cannot come from outside there.
    """
    for endpoint in (*node.publishers, *node.subscriptions):
        while endpoint.event_handlers:
            handler = endpoint.event_handlers.pop()
            node.remove_waitable(handler)
            handler.destroy()


class Stopping:
    """SIGINT and SIGTERM, heard between callbacks.

    An exception raised at any instruction of a callback comes out of C libraries (EGL, ctypes) as an error of theirs,
    and rclpy's own handlers take the context away under a callback that publishes.
    """

    def __init__(self) -> None:
        self.interrupts = True  # while nothing spins, a signal ends what is going on, e.g. the loading of a model
        self._told = False
        heard = threading.current_thread() is threading.main_thread()  # others cannot set handlers
        self.rclpy_handlers = SignalHandlerOptions.NO if heard else None
        for number in (signal.SIGINT, signal.SIGTERM) if heard else ():
            signal.signal(number, self._tell)

    def spin(self, executor: Executor, node: Node) -> None:
        """Run callbacks until a signal comes; those that run then are finished."""
        # Python hears signals between two of its instructions only, and the executor waits in C: so it must wake.
        timeout = HEARING
        if isinstance(executor, (SingleThreadedExecutor, MultiThreadedExecutor)):
            node.create_timer(HEARING, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
            timeout = None  # these make a timer of every time-out
        self.interrupts = False
        while not self._told and node.context.ok():
            executor.spin_once(timeout_sec=timeout)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told = True
        if self.interrupts:
            raise KeyboardInterrupt


def _executor(threads: int, events: bool) -> Executor:
    if threads > 1:
        return MultiThreadedExecutor(threads)
    return EventsExecutor() if events else SingleThreadedExecutor()


def run(
    make_node: Callable[[], NodeT],
    *,
    threads: int = 1,
    events: bool = True,
    close: Callable[[NodeT], None] | None = None,
) -> int:
    """Spin a node until it is told to stop and return the exit code.

    `events`: a message wakes the executor by itself, at half the cost of a wait set made anew for each (ADR 21). Not
    for nodes whose callbacks are coroutines or take a message's info, nor for callback groups or guard conditions.
    A lifecycle node is configured and activated first unless `autostart` is false. SIGINT and SIGTERM let running
    callbacks finish with ROS still up, then `close` runs; both are 0. AloeError prints as one sentence, code 2.
    """
    stopping = Stopping()
    rclpy.init(signal_handler_options=stopping.rclpy_handlers)
    node: NodeT | None = None
    try:
        node = make_node()
        if isinstance(node, AloeLifecycleNode) and node.autostart:
            node.start()
        if node.has_parameter("lockstep") and node.get_parameter("lockstep").value:
            drop_qos_events(node)
        executor = _executor(threads, events)
        executor.add_node(node)
        stopping.spin(executor, node)
    except AloeError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        stopping.interrupts = False  # a second Ctrl-C must not break off what ends here, e.g. a bag being closed
        if node is not None:
            if close is not None:
                close(node)
            node.destroy_node()
        rclpy.try_shutdown()
    return 0

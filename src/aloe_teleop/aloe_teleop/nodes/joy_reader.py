"""Reads a game controller without package joy, and says at once when it is unplugged."""

import queue
import sys
import threading
from dataclasses import dataclass

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool

from aloe_core.errors import AloeError
from aloe_ros import qos
from aloe_ros.diagnostics import OK, WARN, Diagnostics
from aloe_ros.node import run
from aloe_ros.parameters import declare, declare_contract
from aloe_teleop.evdev_pad import Pad, PadAbsent, open_pad

_RETRY = 1.0  # s between attempts to open a controller that is not there
_POLL = 0.05  # s at most until the thread sees that it shall stop


@dataclass(frozen=True)
class _State:
    buttons: list[int]
    axes: list[float]
    found: str = ""  # name of a controller that was just opened


class JoyReader(Node):
    """Publishes joy and joy/presence (latched, with a liveliness lease, so that a killed reader is missed too).

    Thread rule: one thread owns the device and only fills a queue; everything of ROS happens in the executor. A state
    is repeated by that thread, so a reader that hangs falls silent. A lost controller is said by presence false and
    looked for again; no released joy is made up, since letting go of the dead-man hands back to the policy.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("joy_reader", **kwargs)
        topic = declare_contract(self).takeover.joy_topic
        self._device = declare(
            self,
            "device",
            "",
            "Path of the controller (/dev/input/…) or its name; empty for the only one there is.",
        )
        rate = declare(
            self, "autorepeat_rate", 20.0, "Joy messages a second while nothing moves, Hz.", low=1.0, high=200.0
        )
        self._period = 1.0 / rate
        self._joy = self.create_publisher(Joy, topic, qos.DEFAULT)
        self._presence = self.create_publisher(Bool, f"{topic}/presence", qos.PRESENCE)
        self._name, self._why = "", "not looked for yet"
        self._losses = 0
        self._last = _State([], [])
        self._diagnostics = Diagnostics(self, self._report)
        self._say_presence()
        # Again and again: on a machine so busy that the lease ran out, its readers think that this process has died.
        self.create_timer(1.0, self._say_presence, clock=Clock(clock_type=ClockType.STEADY_TIME))

        self._read: queue.SimpleQueue[_State | AloeError] = queue.SimpleQueue()
        self._arrived = self.create_guard_condition(self._drain)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow_device, name="controller", daemon=True)
        self._thread.start()

    def destroy_node(self) -> None:
        self._stop.set()
        self._thread.join()
        super().destroy_node()

    # In the thread ------------------------------------------------------------------------------------------------

    def _follow_device(self) -> None:
        while not self._stop.is_set():
            try:
                pad = open_pad(self._device)
            except PadAbsent as absent:
                self._hand_over(absent)
                self._stop.wait(_RETRY)
                continue
            except AloeError as error:
                self._hand_over(error)
                return
            try:
                self._follow(pad)
            except PadAbsent as absent:
                self._hand_over(absent)
            finally:
                pad.close()

    def _follow(self, pad: Pad) -> None:
        self._hand_over(_State(pad.buttons.copy(), pad.axes.copy(), pad.name))
        silent = 0.0
        while not self._stop.is_set():
            patience = min(_POLL, self._period - silent)
            if not pad.wait(patience):
                silent += patience
                if silent < self._period - 1e-6:
                    continue
            silent = 0.0
            self._hand_over(_State(pad.buttons.copy(), pad.axes.copy()))

    def _hand_over(self, item: _State | AloeError) -> None:
        self._read.put(item)
        self._arrived.trigger()

    # In the executor ----------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        while not self._read.empty():
            item = self._read.get()
            if isinstance(item, PadAbsent):
                self._lose(str(item))
            elif isinstance(item, AloeError):
                raise item
            else:
                self._say(item)

    def _say_presence(self) -> None:
        self._presence.publish(Bool(data=bool(self._name)))

    def _say(self, state: _State) -> None:
        if state.found:
            self._name, self._why = state.found, ""
            self.get_logger().info(f"{state.found}: {len(state.buttons)} buttons, {len(state.axes)} axes.")
            self._say_presence()
            self._diagnostics.publish()
        self._last = state
        msg = Joy(buttons=state.buttons, axes=state.axes)
        msg.header.stamp = self.get_clock().now().to_msg()
        msg.header.frame_id = "joy"
        self._joy.publish(msg)

    def _lose(self, why: str) -> None:
        lost, self._name = bool(self._name), ""
        if lost:
            self._losses += 1
            self._say_presence()
        before, self._why = self._why, why
        if why != before:
            self.get_logger().warning(why)
            self._diagnostics.publish()

    def _report(self):
        values = {
            "controller": self._name,
            "buttons": len(self._last.buttons),
            "axes": len(self._last.axes),
            "losses": self._losses,
        }
        return (OK, self._name, values) if self._name else (WARN, self._why, values)


def main() -> int:
    return run(JoyReader, events=False)


if __name__ == "__main__":
    sys.exit(main())

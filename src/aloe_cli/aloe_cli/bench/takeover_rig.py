"""The world around the real arbiter_node and takeover_node: a robot, a leader arm, a joystick and a policy."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from aloe_msgs.msg import ActionChunk, ControlMode, ExecutedStep
from aloe_msgs.srv import SetControlMode
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy

from aloe_core.contract import RobotContract
from aloe_core.types import Chunk, Inference
from aloe_ros import qos, stamps
from aloe_ros.convert import chunk_to_msg, joint_state_msg
from aloe_ros.testing import Spinner

_PLAYED = 8  # policy steps before a press: the blend has begun, the chunk may be anywhere
_HELD = (3, 8)  # control ticks that a press lasts
_PATIENCE = 1.0  # s for a press to take effect, and for the policy to drive


@dataclass
class Drive:
    """What was seen on the topics."""

    latencies: list[float] = field(default_factory=list)  # s, press -> last command of the policy, as received here
    ticks: int = 0
    jump: float = 0.0  # rad, of revolute joints
    lost: int = 0  # takeovers that ended before the release: a message was late on a busy machine
    violations: int = 0  # steps over the slew limit, or from a chunk of before the last takeover


class Rig(Node):
    """Follows commands like an ideal robot; the policy asks for a slow sine about where the robot stands."""

    def __init__(self, contract: RobotContract, position: np.ndarray, seed: int) -> None:
        super().__init__("takeover_rig")
        self.seen = Drive()
        self.mode: ControlMode | None = None
        self._contract, self._position, self._rest = contract, position, position
        self._random = random.Random(seed)
        self._angular = np.array([joint.unit == "rad" for joint in contract.joints])
        self._slew = contract.velocity * contract.dt + 1e-5  # ExecutedStep has single precision
        self._pressed = self._taken = False
        self._last: ExecutedStep | None = None
        self._policy_steps = 0  # since the last mode change
        self._last_policy = 0.0  # monotonic s
        self._ticks = self._chunks = self._chunk_at = 0
        self._barred = 0  # chunks up to this one are of before the last mode change
        takeover, control = contract.takeover, contract.control
        self._states = self.create_publisher(JointState, control.joint_states_topic, qos.JOINT_STATES)
        self._leader = self.create_publisher(JointState, takeover.leader_topic, qos.DEFAULT)
        self._joy = self.create_publisher(Joy, takeover.joy_topic, qos.DEFAULT)
        self._plans = self.create_publisher(ActionChunk, "policy/action_chunk", qos.COMMAND)
        self._set_mode = self.create_client(SetControlMode, "control/set_mode")
        self.create_subscription(ExecutedStep, "control/executed", self._on_executed, qos.COMMAND)
        self.create_subscription(ControlMode, "control/mode", self._on_mode, qos.LATCHED)
        self.create_timer(contract.dt, self._tick)
        self._spinner = Spinner(self)

    def connect(self) -> None:
        """Wait until both nodes are there, then let the policy drive."""
        outputs = (self._states, self._leader, self._joy, self._plans)
        self._spinner.until(lambda: all(p.get_subscription_count() for p in outputs), "both nodes listen", 60.0)
        self._spinner.until(lambda: self._last is not None, "the arbiter commands", 60.0)
        self._begin()

    def press(self) -> None:
        """Take over once at a random moment of a running chunk, note the latency, and hand back."""
        while not self._policy_runs():
            self._wait(_PATIENCE, self._policy_runs)
            if self._is(ControlMode.HOLD):  # asked for by a node that missed the leader for a while
                self._begin()
        self._wait(self._random.random() * self._contract.dt)
        pressed, self._taken = time.monotonic(), False
        self._buttons(True)
        self._wait(_PATIENCE, lambda: self._taken)
        self._wait(self._random.randint(*_HELD) * self._contract.dt)
        if self._taken:
            self.seen.latencies.append(max(self._last_policy - pressed, 0.0))
        lost = not self._is(ControlMode.HUMAN)
        self._buttons(False)
        self._spinner.until(lambda: not self._is(ControlMode.HUMAN), "the hand-back", 10.0)
        self.seen.lost += lost or self._is(ControlMode.HOLD)
        if self._is(ControlMode.HOLD):
            self._begin()

    def _begin(self) -> None:
        request = SetControlMode.Request(mode=ControlMode.POLICY, cause="benchmark")
        self._spinner.call(self._set_mode, request, 60.0)

    def close(self) -> None:
        self._spinner.close()
        self.destroy_node()

    def _policy_runs(self) -> bool:
        return self._is(ControlMode.POLICY) and self._policy_steps > _PLAYED

    def _is(self, mode: int) -> bool:
        return self.mode is not None and self.mode.mode == mode

    def _wait(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Spin for a while, or until it is `enough`; the world goes on meanwhile."""
        until = time.monotonic() + seconds
        while not enough() and (left := until - time.monotonic()) > 0:
            self._spinner.executor.spin_once(timeout_sec=left)  # to the moment, not to the next message

    def _tick(self) -> None:
        stamp = self.get_clock().now().nanoseconds
        state = joint_state_msg(self._contract, stamp, self._position)
        self._states.publish(state)
        self._leader.publish(state)
        self._buttons(self._pressed)
        self._ticks += 1
        due = self._ticks - self._chunk_at >= self._contract.chunk.execute
        if due and self._is(ControlMode.POLICY) and stamp >= stamps.to_ns(self.mode.header.stamp):
            self._plan(stamp)

    def _plan(self, stamp: int) -> None:
        contract = self._contract
        self._chunk_at = self._ticks
        self._chunks += 1
        phase = 0.05 * (self._ticks + np.arange(contract.chunk.horizon))
        actions = self._rest + np.where(self._angular, 0.1 * np.sin(phase)[:, None], 0.0)
        plan = Chunk(str(self._chunks), stamp, contract.dt, actions.astype(np.float32), contract.chunk.execute, "bench")
        self._plans.publish(chunk_to_msg(Inference(plan, None, 1, 0.0), contract))

    def _buttons(self, pressed: bool) -> None:
        self._pressed = pressed
        takeover = self._contract.takeover
        buttons = [0] * 16
        buttons[takeover.deadman_button] = int(pressed)
        self._joy.publish(Joy(axes=[0.0] * 8, buttons=buttons))

    def _on_mode(self, mode: ControlMode) -> None:
        self.mode = mode
        self._taken |= mode.mode == ControlMode.HUMAN
        self._policy_steps, self._barred = 0, self._chunks
        self._chunk_at = -self._contract.chunk.execute  # a fresh chunk with the next joint state

    def _on_executed(self, step: ExecutedStep) -> None:
        now, seen = time.monotonic(), self.seen
        executed = np.asarray(step.executed, dtype=np.float64)
        seen.ticks += 1
        if self._last is not None and step.tick == self._last.tick + 1:
            moved = np.abs(executed - np.asarray(self._last.executed))
            seen.jump = max(seen.jump, float(moved[self._angular].max()))
            seen.violations += bool((moved > self._slew).any())
        if step.source == ExecutedStep.SOURCE_POLICY:
            self._last_policy = now
            self._policy_steps += 1
            # A step of before the change may arrive after the news of it: topics are not ordered among each other.
            fence = stamps.to_ns(self.mode.header.stamp) if self.mode is not None else 0
            seen.violations += int(step.chunk_id) <= self._barred and stamps.to_ns(step.header.stamp) >= fence
        self._last, self._position = step, executed

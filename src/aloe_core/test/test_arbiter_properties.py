"""Whatever comes in whatever order, the rules of precedence, fencing and answering hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aloe_core.arbiter import Arbiter
from aloe_core.contract import load_contract
from aloe_core.control import (
    AskMode,
    EstopButton,
    LateChunk,
    Mode,
    ResetEstop,
    RobotState,
    TaskInfo,
    Teleop,
    Tick,
)
from aloe_core.rules import Rules
from aloe_core.types import Chunk

CONTRACT = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")
DT = 20_000_000
HOME = (CONTRACT.lower + CONTRACT.upper) / 2


class ArbiterMachine(RuleBasedStateMachine):
    lockstep = True

    @initialize(late=st.sampled_from(LateChunk))
    def begin(self, late):
        self.arbiter = Arbiter(CONTRACT, lockstep=self.lockstep, late_chunk=late)
        self.rules = Rules(CONTRACT, lockstep=self.lockstep)
        self.now = self.k = 0
        self.names = 0
        self.sent = []
        self.deadman = self.button = self.other = False
        self.states = self.answers = 0

    def send(self, event, ms=0):
        self.now += ms * 1_000_000
        decision = self.arbiter.update(self.now, event)
        assert list(self.rules.check(self.now, event, decision, self.arbiter.mode)) == []
        self.answers += decision.step is not None
        return decision

    @rule(offset=st.floats(-0.5, 0.5) | st.just(np.nan))
    def joint_state(self, offset):
        if self.lockstep and (self.states > self.answers or not np.isfinite(offset)):
            return  # the simulator waits for its answer
        self.k += 1
        self.states += bool(np.isfinite(offset))
        self.send(RobotState(self.k * DT, HOME + offset), 20)

    @rule(ticks=st.integers(1, 400))
    def time_goes_backwards(self, ticks):
        if self.lockstep and self.states > self.answers:
            return
        overtaken = not self.lockstep and ticks * DT <= CONTRACT.staleness.joint_states * 1e9
        stamp = max(self.k - ticks, 0)
        self.states += 1
        self.send(RobotState(stamp * DT, HOME), 20)
        if not overtaken:
            self.k = stamp

    @rule(age=st.integers(-1, 30), offset=st.floats(-9, 9) | st.just(np.nan))
    def chunk(self, age, offset):
        self.names += 1
        actions = np.full((50, len(HOME)), offset, dtype=np.float32)
        self.sent.append(Chunk(str(self.names), max(self.k - age, 0) * DT, CONTRACT.dt, actions, 25, "v"))
        self.send(self.sent[-1])

    @rule(which=st.integers(1, 8), renewed=st.booleans())
    def old_chunk_again(self, which, renewed):
        if len(self.sent) >= which:
            old = self.sent[-which]
            self.send(replace(old, stamp=self.k * DT) if renewed else old)

    @rule(groups=st.sampled_from([(), (0,), (1,), (0, 1)]), value=st.floats(-9, 9) | st.just(np.nan))
    def teleop(self, groups, value):
        self.deadman = bool(groups)
        joints = np.flatnonzero(np.isin(CONTRACT.group_of, groups))
        before = self.arbiter.mode
        self.send(Teleop(self.k * DT, self.deadman, joints, np.full(len(joints), value)))
        if before is Mode.ESTOP:
            assert self.arbiter.mode is Mode.ESTOP

    @rule(held=st.booleans(), other=st.booleans())
    def buttons(self, held, other):
        pressed = held and not self.button
        self.button, self.other = held, other
        self.send(EstopButton(held, other))
        if pressed:
            assert self.arbiter.mode is Mode.ESTOP

    @rule(mode=st.sampled_from(Mode))
    def ask(self, mode):
        before = self.arbiter.mode
        decision = self.send(AskMode(mode, "asked"))
        # Granted, in lock-step it may end at once: the chunk of a state that waited too long is late.
        granted = decision.refusal == ""
        assert granted == (self.arbiter.mode is mode)
        if mode is Mode.ESTOP:
            assert granted
        elif before is Mode.ESTOP:
            assert self.arbiter.mode is Mode.ESTOP
        elif before is Mode.HUMAN and mode is Mode.POLICY:
            assert not granted

    @rule()
    def reset_estop(self):
        before = self.arbiter.mode
        decision = self.send(ResetEstop())
        if before is Mode.ESTOP:
            assert (self.arbiter.mode is Mode.HOLD) == (not self.button and not self.other and not self.deadman)
        else:
            assert self.arbiter.mode is before
        assert bool(decision.refusal) == (decision.change is None)

    @rule(episode=st.sampled_from(["", "a", "b"]), supervision=st.sampled_from(["demonstrate", "supervise", "watch"]))
    def task(self, episode, supervision):
        self.send(TaskInfo(episode, supervision))

    @rule(ms=st.integers(0, 6000))
    def wait(self, ms):
        self.send(Tick(), ms)

    @invariant()
    def answers_are_not_invented(self):
        if self.lockstep:
            assert self.answers <= self.states
            waits = self.arbiter.mode in (Mode.POLICY, Mode.HUMAN, Mode.RESET)
            assert self.answers == self.states or waits


class TimerMachine(ArbiterMachine):
    lockstep = False


QUICK = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestLockStep = ArbiterMachine.TestCase
TestLockStep.settings = QUICK
TestTimer = TimerMachine.TestCase
TestTimer.settings = QUICK

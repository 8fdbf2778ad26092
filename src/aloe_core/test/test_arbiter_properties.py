"""Whatever comes in whatever order, the rules of precedence, fencing and answering hold."""

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aloe_core.arbiter import Arbiter
from aloe_core.contract import load_contract
from aloe_core.control import (
    TRANSITIONS,
    AskMode,
    EstopButton,
    Mode,
    ResetEstop,
    RobotState,
    TaskInfo,
    Teleop,
    Tick,
)
from aloe_core.episode.data import Source
from aloe_core.types import Chunk

CONTRACT = load_contract(Path(__file__).parents[3] / "config/robots/aloha_sim.yaml")
DT = 20_000_000
HOME = (CONTRACT.lower + CONTRACT.upper) / 2
JOINTS = np.arange(CONTRACT.action_dim)


class ArbiterMachine(RuleBasedStateMachine):
    lockstep = True

    @initialize()
    def begin(self):
        self.arbiter = Arbiter(CONTRACT, lockstep=self.lockstep)
        self.now = self.k = self.chunks = 0
        self.deadman = self.button = False
        self.states = self.answers = 0
        self.sequence = 0
        self.last_change = None
        self.command = None

    def send(self, event, ms=0):
        self.now += ms * 1_000_000
        before = self.arbiter.mode
        decision = self.arbiter.update(self.now, event)
        self.check_change(before, decision.change)
        if decision.step is not None:
            self.check_step(decision.step, event)
        return decision

    def check_change(self, before, change):
        if change is None:
            assert self.arbiter.mode is before
            return
        self.sequence += 1
        self.last_change = change
        assert (change.previous, change.mode) == (before, self.arbiter.mode)
        assert change.mode in {to for (mode, _), to in TRANSITIONS.items() if mode is before}
        assert change.cause and change.sequence == self.sequence
        if Mode.RESET in (change.mode, before):
            self.command = None

    def check_step(self, step, event):
        mode = self.arbiter.mode
        self.answers += 1
        assert mode is not Mode.RESET
        assert np.isfinite(step.executed).all()
        assert (step.executed >= CONTRACT.lower).all() and (step.executed <= CONTRACT.upper).all()
        if self.command is not None:
            assert (np.abs(step.executed - self.command) <= CONTRACT.velocity * CONTRACT.dt + 1e-9).all()
        self.command = step.executed
        allowed = {Mode.POLICY: Source.POLICY, Mode.HUMAN: Source.HUMAN}.get(mode, Source.HOLD)
        assert step.source in (allowed, Source.HOLD)
        if step.source is Source.POLICY:
            stamp = int(step.chunk_id)
            assert self.last_change is not None and stamp >= self.last_change.stamp
            limit = 25 if self.lockstep else 50
            assert 0 <= step.chunk_index < limit
        if step.source is Source.HUMAN:
            assert self.deadman and self.arbiter.mode is not Mode.ESTOP

    @rule()
    def joint_state(self):
        if self.lockstep and self.states > self.answers:
            return  # the simulator waits for its answer
        self.k += 1
        self.states += 1
        self.send(RobotState(self.k * DT, HOME), 20)

    @rule(age=st.integers(-1, 30), offset=st.floats(-9, 9))
    def chunk(self, age, offset):
        stamp = max(self.k - age, 0) * DT
        actions = np.full((50, len(HOME)), offset, dtype=np.float32)
        self.send(Chunk(str(stamp), stamp, CONTRACT.dt, actions, 25, "v"))

    @rule(engaged=st.booleans(), value=st.floats(-9, 9) | st.just(np.nan))
    def teleop(self, engaged, value):
        self.deadman = engaged
        self.send(Teleop(self.k * DT, engaged, JOINTS, np.full(len(HOME), value)))

    @rule(held=st.booleans())
    def estop_button(self, held):
        pressed = held and not self.button
        self.button = held
        self.send(EstopButton(held))
        if pressed:
            assert self.arbiter.mode is Mode.ESTOP

    @rule(mode=st.sampled_from(Mode))
    def ask(self, mode):
        before = self.arbiter.mode
        decision = self.send(AskMode(mode, "asked"))
        granted = self.arbiter.mode is mode
        assert granted != bool(decision.refusal)
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
            assert (self.arbiter.mode is Mode.HOLD) == (not self.button and not self.deadman)
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

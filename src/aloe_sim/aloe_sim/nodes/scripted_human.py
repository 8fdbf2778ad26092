"""A scripted person at the running graph: watches sim/state, holds the dead-man, moves the leader arm, labels."""

import sys
from collections import deque
from enum import Enum

from aloe_msgs.msg import ControlMode, EpisodeEvent, Task
from aloe_msgs.srv import LabelEpisode
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray, Header

from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError
from aloe_ros import qos, stamps
from aloe_ros.diagnostics import ERROR, OK, Diagnostics
from aloe_ros.node import run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep
from aloe_sim.human import HumanConfig, ScriptedHuman, load_human
from aloe_sim.nodes import privileged
from aloe_sim.nodes.hand import Hand
from aloe_sim.station import Station

# Wall seconds between looks at the robot, and after which a held dead-man counts as ignored or the robot as stuck.
LOOK, IGNORED, STANDSTILL = 0.25, 2.0, 4.0


class Phase(Enum):
    """Where the person is in an episode."""

    AWAY = 0  # no episode runs
    ALIGNING = 1  # hand off the dead-man, leader moved to where the robot is
    PRESENT = 2  # looks at every state and acts
    LABELLED = 3  # has said how it went and keeps still until the episode ends


class ScriptedHumanNode(Node):
    """Answers every sim/state of a running episode as `ScriptedHuman` does, by what a person has: joy, leader, label.

    One ScriptedHuman per episode, seeded by the task's seed, looking at a station that mirrors the simulator's. It
    acts from the reset state on, but not before the episode has started, so that the recorder misses nothing. In
    lock-step `sim/seen` lets the simulator wait meanwhile, and whenever the person is behind. One who has missed the
    first states says so and acts from the oldest one left.
    After the label the dead-man stays as it is: releasing it would make the robot hold instead of wait for the end.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("scripted_human", **kwargs)
        self._contract = declare_contract(self)
        self._lockstep = declare_lockstep(self)
        path = declare(self, "human", "", "Behaviour of the person (YAML); empty for the defaults.")
        self._operator = declare(self, "operator_name", "scripted", "Name put on labels.")
        self._config = load_human(path) if path else HumanConfig()

        self._stations: dict[privileged.Key, Station] = {}
        self._states: deque[privileged.SimState] = deque(maxlen=privileged.QOS.depth)  # not looked at yet
        self._task = Task()
        self._started = ""  # episode id
        self._phase = Phase.AWAY
        self._human: ScriptedHuman | None = None
        self._newest: privileged.SimState | None = None  # looked at
        self._start: int | None = None  # stamp of the reset state of the newest episode looked at, ns
        self._dt = round(self._contract.dt * 1e9)
        self._received = self._told = 0  # stamps of the newest state received, and told as seen, ns
        self._tick = 0  # of the newest state received
        self._mode: int | None = None
        self._labels = 0
        self._problem: str | None = None

        self._hand = Hand(self, self._contract)
        self._seen = self.create_publisher(Header, "sim/seen", privileged.SEEN) if self._lockstep else None
        self._label_client = self.create_client(LabelEpisode, "episode/label")
        self.create_subscription(Task, "task", self._on_task, qos.LATCHED)
        self.create_subscription(ControlMode, "control/mode", self._on_mode, qos.LATCHED)
        self.create_subscription(
            EpisodeEvent, "episode/event", self._on_event, qos.command_subscription(self._lockstep)
        )
        # Lock-step waits for an answer to every state; on the wall clock the newest is the only one worth looking at.
        seen = privileged.QOS if self._lockstep else privileged.NEWEST
        self.create_subscription(Float64MultiArray, "sim/state", self._on_state, seen)
        self._diagnostics = Diagnostics(self, self._report)
        self._ignored = self._still = 0  # looks since the robot was last seen to follow, and to move
        self.create_timer(LOOK, self._watch_the_robot, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # --- the course of an episode ------------------------------------------------------------------------------

    def _on_task(self, msg: Task) -> None:
        if msg.episode_id != self._task.episode_id:
            self._leave()
        self._task = msg
        self._come()
        self._tell()

    def _on_event(self, msg: EpisodeEvent) -> None:
        if msg.event == EpisodeEvent.STARTED:
            self._started = msg.episode_id
            self._come()
        elif msg.event != EpisodeEvent.LABELLED and msg.episode_id == self._task.episode_id:
            self._leave()
        self._tell()

    def _come(self) -> None:
        running = self._task.episode_id and self._task.episode_id == self._started
        can_drive = self._task.supervision == "watch" or self._hand.has_listener
        if self._phase is Phase.AWAY and running and can_drive:
            # On a robot the leader may still be fresh from the episode before, and far from the robot.
            self._phase = Phase.PRESENT if self._lockstep else Phase.ALIGNING
            self._human = self._newest = self._problem = None
            self._look()

    def _leave(self) -> None:
        self._phase = Phase.AWAY
        if self._started == self._task.episode_id:  # the next one may have started before its task came
            self._started = ""
        self._hand.release()

    def _on_mode(self, msg: ControlMode) -> None:
        self._mode = msg.mode

    def _on_state(self, msg: Float64MultiArray) -> None:
        state = privileged.read(msg)
        self._still = 0
        self._mirror(state.key)  # built while nobody waits for it
        if not self._lockstep or (self._states and self._start_of(self._states[-1]) != self._start_of(state)):
            self._states.clear()
        self._states.append(state)
        self._received, self._tick = state.stamp, state.tick
        self._look()
        self._tell()

    # --- what the person does ----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Act on the states that came in, oldest first."""
        while self._phase in (Phase.ALIGNING, Phase.PRESENT) and self._states:
            state = self._states.popleft()
            try:
                if self._phase is Phase.ALIGNING:
                    self._newest = state
                    self._hand.lead(state.stamp, self._look_at(state).joint_positions())
                elif self._human is not None or self._start_of(state) != self._start or not self._lockstep:
                    self._act(state)  # else it is left over from the episode before
            except AloeError as error:
                self._give_up(str(error))

    def _start_of(self, state: privileged.SimState) -> int:
        """Return the stamp of the reset state that `state` came from, ns."""
        return state.stamp - state.tick * self._dt

    def _tell(self) -> None:
        """Let the simulator go on, unless an episode is about to begin of which nothing may be missed."""
        begins = self._tick <= privileged.AHEAD  # else it runs already: a person restarted meanwhile missed its start
        awaited = begins and self._phase is Phase.AWAY and self._task.episode_id and self._problem is None
        if self._seen is not None and self._received != self._told and not awaited:
            self._told = self._received
            self._seen.publish(Header(stamp=stamps.to_msg(self._told)))

    def _look_at(self, state: privileged.SimState) -> Station:
        station = self._mirror(state.key)
        station.restore(state.snapshot)
        return station

    def _act(self, state: privileged.SimState) -> None:
        self._newest = state
        station = self._look_at(state)
        start = self._start_of(state)
        if self._human is None or (self._lockstep and start != self._start):
            if self._lockstep and start != self._start and state.tick > 0:
                self.get_logger().warning(f"Came late: the first {state.tick} states of the episode went by unseen.")
            self._human = ScriptedHuman(station, self._config, self._task.seed, self._task.supervision)
        self._start = start
        action = self._human.update()
        if action.label is not None:
            self._phase = Phase.LABELLED
            self._label(action.label, state.stamp)
            return
        if action.command is None:
            self._hand.release()
        else:
            self._hand.press(state.stamp)
            self._hand.lead(state.stamp, action.command)

    def _watch_the_robot(self) -> None:
        """As a person would, let go, align and press again where the robot does not follow: takeovers get refused."""
        self._come()  # whoever listens to the leader arm may be there only now
        self._tell()
        if self._phase is Phase.ALIGNING and self._newest is not None:
            self._phase, self._human = Phase.PRESENT, None
            self._act(self._newest)
        held = self._hand.pressed and self._phase is Phase.PRESENT
        self._ignored = self._ignored + 1 if held and self._mode != ControlMode.HUMAN else 0
        self._still = self._still + 1 if held else 0
        if self._ignored >= IGNORED / LOOK or self._still >= STANDSTILL / LOOK:
            self._ignored = self._still = 0
            self.get_logger().warning("The robot does not follow: the dead-man is released and pressed again.")
            self._hand.release()
            self._phase = Phase.ALIGNING

    def _mirror(self, key: privileged.Key) -> Station:
        """Return the station of this process that mirrors the simulator's."""
        if key not in self._stations:
            self._stations[key] = Station(self._contract, key.task, key.level, key.variant, render=False)
        return self._stations[key]

    def _label(self, outcome: Outcome, stamp: int) -> None:
        if not self._label_client.service_is_ready():
            self._give_up(f"Nobody serves {self._label_client.srv_name}: episode {self._task.episode_id} has no label.")
            return
        request = LabelEpisode.Request(
            episode_id=self._task.episode_id, outcome=outcome, stamp=stamps.to_msg(stamp), operator_name=self._operator
        )
        self._labels += 1
        self._label_client.call_async(request).add_done_callback(self._on_labelled)

    def _on_labelled(self, future) -> None:
        response = future.result()
        if not response.success and self._phase is Phase.LABELLED:
            self._give_up(f"Label refused: {response.message}")

    def _give_up(self, why: str) -> None:
        self._problem = why
        self.get_logger().error(why)
        self._leave()

    def _report(self):
        values = {"episode": self._task.episode_id, "deadman": self._hand.pressed, "labels": self._labels}
        if self._problem:
            return ERROR, self._problem, values
        return OK, self._phase.name.lower(), values


def main() -> int:
    return run(ScriptedHumanNode)


if __name__ == "__main__":
    sys.exit(main())

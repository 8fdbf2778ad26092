"""Runs episodes: reset, record, let policy or person drive, label or time out, stop; one after another."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from aloe_msgs.action import RunEpisodes
from aloe_msgs.msg import ControlMode, EpisodeEvent, ExecutedStep, RecorderStatus, Task
from aloe_msgs.srv import LabelEpisode
from rclpy.action import ActionServer, CancelResponse
from rclpy.node import Node
from std_srvs.srv import Trigger

from aloe_core.episode.data import Outcome
from aloe_core.episode.labels import EpisodeLabels
from aloe_core.episode.names import new_ulid
from aloe_core.errors import AloeError
from aloe_ros import qos, stamps
from aloe_ros.diagnostics import OK, WARN, Diagnostics
from aloe_ros.node import run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep
from aloe_ros.waiting import Waiter
from aloe_teleop.episode import Episode, Verdict
from aloe_teleop.episode_hand import Hand
from aloe_teleop.episode_run import Run
from aloe_teleop.episode_services import EpisodeServices


class Start(NamedTuple):
    """What an episode starts with."""

    instruction: str
    time_limit: float  # s


class Last(NamedTuple):
    """The episode that ended last; `path` is empty if there is no bag of it."""

    episode_id: str
    path: str


class EpisodeManager(Node):
    """Serves episodes/run, episode/label and what `Hand` offers, as docs/architecture.md says under "An episode".

    Everything runs in one thread: the goal is a coroutine that waits for services and topics without blocking.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("episode_manager", **kwargs)
        self._contract = declare_contract(self)
        self._lockstep = declare_lockstep(self)
        self._mode_of_reset = self._declare_parameters()
        self._waiter = Waiter(self)
        self._others = EpisodeServices(self, self._waiter, self._timeout)
        self.episode: Episode | None = None
        self.running: Run | None = None
        self.previous = RunEpisodes.Goal()  # what the last run asked for
        self.last: Last | None = None
        self.recording = ""  # bag directory of the running episode
        self._start = Start("", 0.0)
        self._prepared: tuple[str, str, int] | None = None  # task, level and seed that episode/reset has made ready
        self._continued: bool | None = None  # None: nothing waits for a person
        self._mode: ControlMode | None = None
        self._last_step = 0.0  # monotonic s
        self._detail = "idle"

        self._task = self.create_publisher(Task, "task", qos.LATCHED)
        self._event = self.create_publisher(EpisodeEvent, "episode/event", qos.COMMAND)
        commands = qos.command_subscription(self._lockstep)
        self.create_subscription(ExecutedStep, "control/executed", self._on_executed, commands)
        self.create_subscription(ControlMode, "control/mode", self._on_mode, qos.LATCHED)
        self.create_subscription(RecorderStatus, "recorder/status", self._on_recorder, qos.LATCHED)
        self.create_subscription(EpisodeEvent, "episode/event", self._on_event, commands)
        self.create_service(LabelEpisode, "episode/label", self._on_label)
        self.create_service(Trigger, "~/continue", self._on_continue)
        self._action = ActionServer(
            self, RunEpisodes, "episodes/run", self._on_goal, cancel_callback=lambda _: CancelResponse.ACCEPT
        )
        self._hand = Hand(self, self._contract, self._waiter)
        self._diagnostics = Diagnostics(self, self._report)

    def _declare_parameters(self) -> str:
        self._instruction = declare(self, "instruction", "", "Text for the policy where no simulator gives one.")
        self._time_limit = declare(
            self, "time_limit", 60.0, "Seconds of an episode where neither goal nor task says.", low=0.1, high=36000.0
        )
        self._operator = declare(self, "operator_name", "", "Person in charge, written into bags.")
        self._record = declare(self, "record", True, "Record every episode; without it no bag is written.")
        self._timeout = declare(
            self,
            "service_timeout",
            60.0,
            "Wall seconds a called service may take.",
            low=0.1,
            high=3600.0,
        )
        self._stall = declare(
            self, "stall_timeout", 60.0, "Wall seconds without a step that abort an episode.", low=0.1, high=3600.0
        )
        self._simulated = declare(
            self, "simulated", False, "A simulator serves station/reset, also under manual and scripted."
        )
        return declare(
            self,
            "reset",
            "auto",
            "auto: call station/reset. scripted: call station/reset_script (std_srvs/Trigger) of the robot. "
            "manual: a person resets the station and calls ~/continue. A simulated one is then reset by the seed.",
            choices=("auto", "scripted", "manual"),
        )

    # The goal -----------------------------------------------------------------------------------------------------

    async def _on_goal(self, goal) -> RunEpisodes.Result:
        run = Run(goal.request, lambda: goal.is_cancel_requested, goal.publish_feedback)
        await self.run(run)
        if run.cancelled:
            goal.canceled()
        elif run.result.success:
            goal.succeed()
        else:
            goal.abort()
        return run.result

    async def run(self, run: Run) -> None:
        """Run every episode of `run` and conclude its result; refused while another run is not finished."""
        if self.running is not None:
            run.result.message = "Goal refused: another run of episodes is not finished."
            return
        self.running = run
        try:
            run.check()
            self.previous = run.request
            for seed in run.request.seeds:
                if run.ended:
                    break
                await self._run_episode(run, int(seed))
        except AloeError as error:
            run.result.message = str(error)
            self.get_logger().error(run.result.message)
        finally:
            self.running, self._detail = None, "idle"
        run.conclude()
        self._waiter.notify()

    async def _run_episode(self, run: Run, seed: int) -> None:
        """Run one episode and add it to the result; AloeError if it could not be run to its end."""
        if run.cancelled:
            raise AloeError("Cancelled.")
        request = run.request
        self._say(run, f"resetting for seed {seed}")
        start = await self.reset(request.task, request.level, seed, run)
        limit = request.time_limit or start.time_limit
        episode = Episode(
            new_ulid(), request.task, start.instruction, seed, request.supervision, self._contract.dt, limit
        )
        self._publish_task(episode)
        path = ""
        try:
            if self._record:
                path = self.recording = await self._others.start_recording(episode, self._operator, request.folder)
            self._say(run, f"seed {seed} runs", episode)
            await self._drive(run, episode)
        except AloeError as error:
            episode.abort(str(error))
            raise
        finally:
            path = await self._finish(episode, path)
            run.add(episode, path)
            self.last = Last(episode.episode_id, path)
            self._say(run, f"seed {seed}: {episode.verdict.reason}", episode)
        if episode.verdict.end == "aborted" and not episode.discarded:
            raise AloeError(f"Episode {episode.episode_id} aborted: {episode.verdict.reason}")

    async def reset(self, task: str, level: str, seed: int, run: Run | None = None) -> Start:
        """Return the start of an episode once the station stands ready; AloeError if it cannot be made ready.

        `run` waits for the operator under manual; without one the operator has asked for this very reset.
        """
        prepared, self._prepared = self._prepared, None
        if run is not None and prepared == (task, level, seed):
            return self._start
        await self._others.ask(self._idle_mode, "station reset")
        if self._mode_of_reset == "scripted":
            await self._others.ask(ControlMode.RESET, "reset script runs")
            await self._others.run_reset_script()
            await self._others.ask(self._idle_mode, "reset script is done")
        elif self._mode_of_reset == "manual" and run is not None and not run.by_hand:
            await self._operator_continues(run)
        if run is not None:
            run.by_hand = False
        if self._mode_of_reset != "auto" and not self._simulated:
            self._start = Start(self._instruction or task, self._time_limit)
        else:
            self._start = Start(*await self._others.reset_station(task, level, seed))
        if run is None:
            self._prepared = (task, level, seed)
        return self._start

    async def _operator_continues(self, run: Run) -> None:
        self._continued = False
        self.get_logger().info("Reset the station, then call ~/continue (std_srvs/Trigger) or press start.")
        await self._waiter.until(lambda: self._continued or run.cancelled or run.ended)
        continued, self._continued = self._continued, None
        if not continued:
            raise AloeError("Cancelled while waiting for ~/continue.")

    async def _drive(self, run: Run, episode: Episode) -> None:
        """Let policy or person drive until a verdict."""
        self.episode, self._last_step = episode, time.monotonic()
        if self._mode is not None and self._mode.mode == ControlMode.ESTOP:
            raise AloeError("the e-stop is latched, reset it first.")
        if episode.supervision != "demonstrate":
            await self._begin_policy()
        elif not self._lockstep:
            await self._others.ask(ControlMode.HOLD, "episode begins, waiting for the takeover")
        self._announce(episode, EpisodeEvent.STARTED)
        run.started = run.started or episode
        self._waiter.notify()

        def decided() -> bool:
            if run.cancelled:
                episode.abort("the goal was cancelled.")
            elif time.monotonic() - self._last_step > self._stall:
                episode.abort(f"no step for {self._stall:g} s; the arbiter or the person does not act.")
            return episode.verdict is not None

        await self._waiter.until(decided)

    async def _finish(self, episode: Episode, path: str) -> str:
        """Stop robot and recorder whatever happened; return the path of the bag, empty if there is none."""
        try:
            await self._others.ask(self._idle_mode, "episode ended")
        except AloeError as error:
            episode.abort(str(error))
        await self._waiter.until(lambda: episode.all_steps_seen, timeout=1.0)
        self.episode, self.recording = None, ""
        if path:
            try:
                path, quality = await self._others.stop_recording(episode)
            except AloeError as error:
                path, episode.verdict = "", Verdict(Outcome.ABORTED, "aborted", str(error))
            else:
                if quality and episode.verdict is not None:
                    self.get_logger().warning(quality)
                    episode.verdict = replace(episode.verdict, reason=f"{episode.verdict.reason}; {quality}")
        self._announce(episode, EpisodeEvent.STOPPED, episode.verdict)
        self._publish_task(None)
        return path

    # Inputs -------------------------------------------------------------------------------------------------------

    def _on_executed(self, msg: ExecutedStep) -> None:
        if self.episode is None:
            return
        self._last_step = time.monotonic()
        self.episode.on_executed(msg.episode_id, stamps.to_ns(msg.header.stamp), msg.source)
        if self.episode.verdict is not None:
            self._waiter.notify()

    def _on_mode(self, msg: ControlMode) -> None:
        self._mode = msg
        self._waiter.notify()
        if msg.mode == ControlMode.ESTOP:
            self._abort(f"e-stop ({msg.cause}).")

    def _on_recorder(self, msg: RecorderStatus) -> None:
        if msg.state == RecorderStatus.ERROR and self._runs(msg.episode_id):
            self._abort(f"recorder: {msg.detail}")

    def _on_event(self, msg: EpisodeEvent) -> None:
        if msg.event == EpisodeEvent.FAILED and self._runs(msg.episode_id):
            self._abort(f"recorder: {msg.detail}")

    def _on_label(self, request, response):
        if self.episode is None:
            response.message = "Label refused: no episode is running."
            return response
        episode = self.episode
        response.message = episode.label(request.episode_id, request.outcome, stamps.to_ns(request.stamp))
        response.success = not response.message
        if response.success:
            self._announce(episode, EpisodeEvent.LABELLED, episode.verdict)
            self._waiter.notify()
        return response

    def _on_continue(self, _request, response):
        response.success = self.go_on()
        response.message = "" if response.success else "Nothing waits to continue."
        return response

    @property
    def waits_for_operator(self) -> bool:
        """Whether a manual reset is not confirmed yet."""
        return self._continued is False

    def go_on(self) -> bool:
        """Confirm a manual reset; return whether one was waited for."""
        waited = self._continued is not None
        if waited:
            self._continued = True
        self._waiter.notify()
        return waited

    def announce_discarded(self, labels: EpisodeLabels, path: Path) -> None:
        """Tell that the bag of a finished episode is in trash/."""
        msg = EpisodeEvent(episode_id=labels.episode_id, task=labels.task, event=EpisodeEvent.DISCARDED)
        msg.outcome, msg.end, msg.detail = int(labels.outcome), labels.end, str(path)
        msg.header.stamp = self.get_clock().now().to_msg()
        self._event.publish(msg)

    # Helpers ------------------------------------------------------------------------------------------------------

    @property
    def _idle_mode(self) -> int:
        """Mode between episodes: the simulator stands still, a robot holds."""
        robot = self._mode_of_reset != "auto" and not self._simulated
        return ControlMode.HOLD if robot else ControlMode.RESET

    async def _begin_policy(self) -> None:
        """Hand the robot to the policy, unless a person took over before it could begin."""
        try:
            await self._others.ask(ControlMode.POLICY, "episode begins")
        except AloeError:
            if not await self._waiter.until(self._person_drives, timeout=1.0):
                raise

    def _person_drives(self) -> bool:
        return self._mode is not None and self._mode.mode == ControlMode.HUMAN

    def _runs(self, episode_id: str) -> bool:
        return self.episode is not None and self.episode.episode_id == episode_id

    def _abort(self, reason: str) -> None:
        if self.episode is not None:
            self.episode.abort(reason)
            self._waiter.notify()

    def _publish_task(self, episode: Episode | None) -> None:
        msg = Task()
        if episode is not None:
            msg = Task(
                task=episode.task,
                instruction=episode.instruction,
                episode_id=episode.episode_id,
                seed=episode.seed,
                supervision=episode.supervision,
            )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._task.publish(msg)

    def _announce(self, episode: Episode, event: int, verdict: Verdict | None = None) -> None:
        msg = EpisodeEvent(episode_id=episode.episode_id, task=episode.task, event=event)
        msg.header.stamp = self.get_clock().now().to_msg()
        if verdict is not None:
            msg.outcome, msg.end, msg.detail = int(verdict.outcome), verdict.end, verdict.reason
            if event == EpisodeEvent.LABELLED:
                stamps.fill(msg.header.stamp, verdict.label_stamp)
        self._event.publish(msg)

    def _say(self, run: Run, detail: str, episode: Episode | None = None) -> None:
        self._detail = detail
        self.get_logger().info(f"Episode {len(run.result.episode_ids)}/{len(run.request.seeds)}: {detail}")
        run.tell(detail, episode)

    def _report(self):
        values = {"busy": self.running is not None, "reset": self._mode_of_reset, "keys": str(self._hand.keys)}
        if self.episode is not None:
            values |= {"episode_id": self.episode.episode_id, "steps": self.episode.steps}
        if self._continued is False:
            return WARN, "waiting for ~/continue", values
        if self._hand.keys.refusal:
            return WARN, self._hand.keys.refusal, values
        return OK, self._detail, values


def main() -> int:
    return run(EpisodeManager, events=False)


if __name__ == "__main__":
    sys.exit(main())

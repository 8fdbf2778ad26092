"""Runs episodes: reset, record, let policy or person drive, label or time out, stop; one after another."""

import sys
import time

from aloe_msgs.action import RunEpisodes
from aloe_msgs.msg import ControlMode, EpisodeEvent, ExecutedStep, RecorderStatus, Task
from aloe_msgs.srv import LabelEpisode
from rclpy.action import ActionServer, CancelResponse
from rclpy.node import Node
from std_srvs.srv import Trigger

from aloe_core.episode.data import Outcome
from aloe_core.episode.names import new_ulid
from aloe_core.errors import AloeError
from aloe_ros import qos, stamps
from aloe_ros.diagnostics import OK, WARN, Diagnostics
from aloe_ros.node import run
from aloe_ros.parameters import declare, declare_contract, declare_lockstep
from aloe_ros.waiting import Waiter
from aloe_teleop.episode import SUPERVISIONS, Episode, Verdict
from aloe_teleop.episode_services import EpisodeServices


class EpisodeManager(Node):
    """Serves episodes/run and episode/label as docs/architecture.md says under "An episode".

    Everything runs in one thread: the goal is a coroutine that waits for services and topics without blocking.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("episode_manager", **kwargs)
        self._contract = declare_contract(self)
        self._lockstep = declare_lockstep(self)
        self._manual = self._declare_parameters() == "manual"
        self._waiter = Waiter(self)
        self._others = EpisodeServices(self, self._waiter, self._timeout)
        self._episode: Episode | None = None
        self._busy = False
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
            self, RunEpisodes, "episodes/run", self._run, cancel_callback=lambda _: CancelResponse.ACCEPT
        )
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
        self._simulated = declare(self, "simulated", False, "A simulator serves station/reset, also under manual.")
        return declare(
            self,
            "reset",
            "auto",
            "auto: call station/reset. manual: a person resets the station and calls ~/continue; "
            "a simulated one is then reset by the seed.",
            choices=("auto", "manual"),
        )

    # The goal -----------------------------------------------------------------------------------------------------

    async def _run(self, goal) -> RunEpisodes.Result:
        result = RunEpisodes.Result()
        if self._busy:
            result.message = "Goal refused: another run of episodes is not finished."
            goal.abort()
            return result
        self._busy = True
        try:
            self._check(goal.request)
            for seed in goal.request.seeds:
                await self._run_episode(goal, int(seed), result)
        except AloeError as error:
            result.message = str(error)
            self.get_logger().error(result.message)
        finally:
            self._busy, self._detail = False, "idle"
        if goal.is_cancel_requested:
            result.message = f"Cancelled after {len(result.episode_ids)} of {len(goal.request.seeds)} episodes."
            goal.canceled()
        elif result.message:
            goal.abort()
        else:
            successes = result.outcomes.count(Outcome.SUCCESS)
            result.success = True
            result.message = f"{len(result.episode_ids)} episodes, {successes} successes."
            goal.succeed()
        return result

    def _check(self, request: RunEpisodes.Goal) -> None:
        if request.supervision not in SUPERVISIONS:
            expected = "one of " + ", ".join(SUPERVISIONS)
            raise AloeError(f"Goal: supervision = {request.supervision!r}: expected {expected}.")
        if not request.task:
            raise AloeError("Goal: task is empty: expected the id of a task.")
        if request.time_limit < 0:
            raise AloeError(f"Goal: time_limit = {request.time_limit}: expected seconds, or 0 for the task's own.")

    async def _run_episode(self, goal, seed: int, result: RunEpisodes.Result) -> None:
        """Run one episode and add it to `result`; AloeError if it could not be run to its end."""
        if goal.is_cancel_requested:
            raise AloeError("Cancelled.")
        request = goal.request
        self._say(goal, result, f"resetting for seed {seed}")
        await self._others.ask(self._idle_mode, "station reset")
        instruction, limit = await self._reset_station(goal, seed)
        limit = request.time_limit or limit
        episode = Episode(new_ulid(), request.task, instruction, seed, request.supervision, self._contract.dt, limit)
        self._publish_task(episode)
        path = ""
        try:
            if self._record:
                path = await self._others.start_recording(episode, self._operator, request.folder)
            self._say(goal, result, f"seed {seed} runs", episode)
            await self._drive(goal, episode)
        except AloeError as error:
            episode.abort(str(error))
            raise
        finally:
            path = await self._finish(episode, path)
            self._add(result, episode, path)
            self._say(goal, result, f"seed {seed}: {episode.verdict.reason}", episode)
        if episode.verdict.end == "aborted":
            raise AloeError(f"Episode {episode.episode_id} aborted: {episode.verdict.reason}")

    async def _reset_station(self, goal, seed: int) -> tuple[str, float]:
        """Return instruction and time limit (s) once the station stands ready."""
        if self._manual:
            self._continued = False
            self.get_logger().info("Reset the station, then call ~/continue (std_srvs/Trigger).")
            await self._waiter.until(lambda: self._continued or goal.is_cancel_requested)
            continued, self._continued = self._continued, None
            if not continued:
                raise AloeError("Cancelled while waiting for ~/continue.")
        if self._manual and not self._simulated:
            return self._instruction or goal.request.task, self._time_limit
        return await self._others.reset_station(goal.request.task, goal.request.level, seed)

    async def _drive(self, goal, episode: Episode) -> None:
        """Let policy or person drive until a verdict."""
        self._episode, self._last_step = episode, time.monotonic()
        if self._mode is not None and self._mode.mode == ControlMode.ESTOP:
            raise AloeError("the e-stop is latched, reset it first.")
        if episode.supervision != "demonstrate":
            await self._begin_policy()
        elif not self._lockstep:
            await self._others.ask(ControlMode.HOLD, "episode begins, waiting for the takeover")
        self._announce(episode, EpisodeEvent.STARTED)

        def decided() -> bool:
            if goal.is_cancel_requested:
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
        self._episode = None
        if path:
            try:
                path = await self._others.stop_recording(episode)
            except AloeError as error:
                path, episode.verdict = "", Verdict(Outcome.ABORTED, "aborted", str(error))
        self._announce(episode, EpisodeEvent.STOPPED, episode.verdict)
        self._publish_task(None)
        return path

    def _add(self, result: RunEpisodes.Result, episode: Episode, path: str) -> None:
        result.episode_ids.append(episode.episode_id)
        result.outcomes.append(int(episode.verdict.outcome))
        result.paths.append(path)
        result.lengths.append(episode.steps * episode.dt)
        result.intervention_steps.append(episode.intervention_steps)
        result.steps.append(episode.steps)

    # Inputs -------------------------------------------------------------------------------------------------------

    def _on_executed(self, msg: ExecutedStep) -> None:
        if self._episode is None:
            return
        self._last_step = time.monotonic()
        self._episode.on_executed(msg.episode_id, stamps.to_ns(msg.header.stamp), msg.source)
        if self._episode.verdict is not None:
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
        if self._episode is None:
            response.message = "Label refused: no episode is running."
            return response
        episode = self._episode
        response.message = episode.label(request.episode_id, request.outcome, stamps.to_ns(request.stamp))
        response.success = not response.message
        if response.success:
            self._announce(episode, EpisodeEvent.LABELLED, episode.verdict)
            self._waiter.notify()
        return response

    def _on_continue(self, _request, response):
        response.success = self._continued is not None
        if response.success:
            self._continued = True
        else:
            response.message = "Nothing waits to continue."
        self._waiter.notify()
        return response

    # Helpers ------------------------------------------------------------------------------------------------------

    @property
    def _idle_mode(self) -> int:
        """Mode between episodes: the simulator stands still, a robot holds."""
        return ControlMode.HOLD if self._manual and not self._simulated else ControlMode.RESET

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
        return self._episode is not None and self._episode.episode_id == episode_id

    def _abort(self, reason: str) -> None:
        if self._episode is not None:
            self._episode.abort(reason)
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

    def _say(self, goal, result: RunEpisodes.Result, detail: str, episode: Episode | None = None) -> None:
        self._detail = detail
        self.get_logger().info(f"Episode {len(result.episode_ids)}/{len(goal.request.seeds)}: {detail}")
        goal.publish_feedback(
            RunEpisodes.Feedback(
                done=len(result.episode_ids),
                total=len(goal.request.seeds),
                successes=result.outcomes.count(Outcome.SUCCESS),
                episode_id=episode.episode_id if episode is not None else "",
                detail=detail,
            )
        )

    def _report(self):
        values = {"busy": self._busy, "reset": "manual" if self._manual else "auto"}
        if self._episode is not None:
            values |= {"episode_id": self._episode.episode_id, "steps": self._episode.steps}
        if self._continued is False:
            return WARN, "waiting for ~/continue", values
        return OK, self._detail, values


def main() -> int:
    return run(EpisodeManager)


if __name__ == "__main__":
    sys.exit(main())

"""An operator's way to single episodes: plain services and keys on the joystick, beside the action episodes/run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aloe_msgs.action import RunEpisodes
from aloe_msgs.srv import DiscardEpisode, ResetStation, StartEpisode, StopEpisode
from rclpy.callback_groups import ReentrantCallbackGroup
from sensor_msgs.msg import Joy

from aloe_core.contract import RobotContract
from aloe_core.episode.files import move_to_trash
from aloe_core.episode.index import EpisodeIndex
from aloe_core.errors import AloeError
from aloe_ros import qos
from aloe_ros.parameters import declare
from aloe_ros.waiting import Waiter
from aloe_teleop.episode_keys import NONE, EpisodeKeys, Key
from aloe_teleop.episode_run import Run

if TYPE_CHECKING:
    from aloe_teleop.nodes.episode_manager import EpisodeManager

OPERATOR = "the operator"


class Hand:
    """Serves episode/start, episode/stop, episode/discard and episode/reset, and reads the keys from joy.

    Numbering resumes from disk: an episode started by key, or with `next_seed`, takes the seed after the highest one
    that the bags of its task in the folder have, those in trash/ included.
    """

    def __init__(self, manager: EpisodeManager, contract: RobotContract, waiter: Waiter) -> None:
        self._manager = manager
        self._waiter = waiter
        self._log = manager.get_logger()
        self._declare(manager, contract)
        self._indices: dict[Path, EpisodeIndex] = {}
        self._used: dict[str, int] = {}  # highest seed of each task in this process, where nothing is recorded
        reentrant = ReentrantCallbackGroup()  # an answer that waits must not keep the next request waiting
        for kind, name, callback in (
            (StartEpisode, "episode/start", self._on_start),
            (StopEpisode, "episode/stop", self._on_stop),
            (DiscardEpisode, "episode/discard", self._on_discard),
            (ResetStation, "episode/reset", self._on_reset),
        ):
            manager.create_service(kind, name, callback, callback_group=reentrant)
        manager.create_subscription(Joy, contract.takeover.joy_topic, self._on_joy, qos.DEFAULT)
        self._log.info(f"Episode keys on the joystick: {self.keys}.")

    def _declare(self, manager: EpisodeManager, contract: RobotContract) -> None:
        self._folder = declare(
            manager, "bag_dir", "bags", "Folder of bags: numbering resumes from it, episodes are discarded in it."
        )
        self._task = declare(manager, "task", "", "Task of an episode started by hand before any other has run.")
        self._level = declare(manager, "level", "", "Its level.")
        self._supervision = declare(
            manager,
            "supervision",
            "supervise",
            "Its supervision.",
            choices=("demonstrate", "supervise", "watch"),
        )
        meanings = {
            Key.START: "start the next episode, or go on after a manual reset",
            Key.STOP: "end the running episode early",
            Key.DISCARD: "move the running or else the last episode to trash/",
        }
        buttons = {
            key: declare(manager, key.value, NONE, f"Button of joy: {meaning}; -1 for none.", low=NONE, high=63)
            for key, meaning in meanings.items()
        }
        self.keys = EpisodeKeys(buttons, contract)

    # Services -----------------------------------------------------------------------------------------------------

    async def _on_start(self, request, response):
        try:
            run = self._asked(request)
            await self._begin(run)
        except AloeError as error:
            response.message = str(error)
            return response
        response.success, response.episode_id = True, run.started.episode_id
        response.seed = run.started.seed
        return response

    def _on_stop(self, request, response):
        try:
            self._stop(request.episode_id, end_run=request.end_run)
        except AloeError as error:
            response.message = str(error)
        response.success = not response.message
        return response

    async def _on_discard(self, request, response):
        try:
            response.path = str(await self._discard(request.episode_id, dry_run=request.dry_run))
        except AloeError as error:
            response.message = str(error)
        response.success = not response.message
        return response

    async def _on_reset(self, request, response):
        try:
            if self._manager.running is not None:
                raise AloeError("Reset refused: a run of episodes is not finished.")
            task = request.task or self._previous().task
            start = await self._manager.reset(task, request.level or self._previous().level, request.seed)
        except AloeError as error:
            response.message = str(error)
            return response
        response.success, response.instruction, response.time_limit = True, start.instruction, start.time_limit
        return response

    # Keys ---------------------------------------------------------------------------------------------------------

    def _on_joy(self, msg: Joy) -> None:
        for key in self.keys.on_joy(msg.buttons):
            self._manager.executor.create_task(self._press, key)
        if self.keys.refusal:
            self._log.warning(self.keys.refusal, throttle_duration_sec=5.0)

    async def _press(self, key: Key) -> None:
        manager = self._manager
        try:
            if key is Key.STOP:
                self._stop("", end_run=manager.episode is None)
            elif key is Key.DISCARD:
                self._log.info(f"Discarded: {await self._discard('', dry_run=False)}")
            elif manager.waits_for_operator:
                manager.go_on()
            else:
                await self._begin(self._asked(StartEpisode.Request(next_seed=True)))
        except AloeError as error:
            self._log.warning(f"Key {key.name.lower()}: {error}")

    # What they do -------------------------------------------------------------------------------------------------

    def _previous(self) -> RunEpisodes.Goal:
        """Return what stands for whatever a request leaves open."""
        if self._manager.previous.task:
            return self._manager.previous
        return RunEpisodes.Goal(task=self._task, level=self._level, supervision=self._supervision)

    def _asked(self, request) -> Run:
        """Return the run of one episode that `request` (StartEpisode) asks for; AloeError if one is running."""
        if self._manager.running is not None:
            raise AloeError("Start refused: another run of episodes is not finished.")
        before = self._previous()
        task, folder = request.task or before.task, request.folder or before.folder
        goal = RunEpisodes.Goal(
            task=task,
            level=request.level or before.level,
            supervision=request.supervision or before.supervision,
            time_limit=request.time_limit,
            folder=folder,
            seeds=[self._next_seed(task, folder) if request.next_seed else request.seed],
        )
        self._used[task] = max(self._used.get(task, -1), goal.seeds[0])
        return Run(goal, by_hand=True)

    async def _begin(self, run: Run) -> None:
        """Return once the first episode runs; AloeError if it does not come to that."""
        self._manager.executor.create_task(self._manager.run, run)
        await self._waiter.until(lambda: run.started is not None or run.result.message)
        if run.started is None:
            raise AloeError(run.result.message)

    def _stop(self, episode_id: str, *, end_run: bool) -> None:
        manager, episode = self._manager, self._manager.episode
        if manager.running is None or (episode is None and not end_run):
            raise AloeError("Stop refused: no episode is running.")
        if episode is not None and episode_id not in ("", episode.episode_id):
            raise AloeError(f"Stop refused: episode {episode_id} is not running, {episode.episode_id} is.")
        manager.running.ended |= end_run
        if episode is not None:
            episode.stop(OPERATOR)
        self._waiter.notify()

    async def _discard(self, episode_id: str, *, dry_run: bool) -> Path:
        """Return where the bag is now, or for a dry run the bag that is meant; AloeError if there is none."""
        manager, episode = self._manager, self._manager.episode
        if episode is None or episode_id not in ("", episode.episode_id):
            return self._discard_finished(episode_id, dry_run=dry_run)
        if dry_run:
            return Path(manager.recording)
        episode.discard(OPERATOR)
        self._waiter.notify()
        await self._waiter.until(lambda: manager.last is not None and manager.last.episode_id == episode.episode_id)
        if not manager.last.path:
            raise AloeError(f"Episode {episode.episode_id} was discarded; there is no bag of it.")
        return Path(manager.last.path)

    def _discard_finished(self, episode_id: str, *, dry_run: bool) -> Path:
        last = self._manager.last
        folder = self._folder_of(self._previous().folder)
        if last is not None and episode_id in ("", last.episode_id):
            if not last.path:
                raise AloeError(f"Nothing to discard: there is no bag of episode {last.episode_id}.")
            episode_id, folder = last.episode_id, Path(last.path).parent
        if not episode_id:
            raise AloeError("Nothing to discard: no episode has run since the start, say which one is meant.")
        kept = self._index(folder).find(episode_id)
        if dry_run:
            return kept.path
        path = move_to_trash(kept.path)
        self._manager.announce_discarded(kept.labels, path)
        return path

    def _next_seed(self, task: str, folder: str) -> int:
        on_disk = self._index(self._folder_of(folder)).next_seed(task)
        return max(on_disk, self._used.get(task, -1) + 1)

    def _folder_of(self, name: str) -> Path:
        return Path(name or self._folder).expanduser()

    def _index(self, folder: Path) -> EpisodeIndex:
        return self._indices.setdefault(folder, EpisodeIndex(folder))

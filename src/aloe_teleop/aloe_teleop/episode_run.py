"""One run of episodes, whoever asked for it: the action or an operator at a service or a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aloe_msgs.action import RunEpisodes

from aloe_core.episode.data import Outcome
from aloe_core.errors import AloeError
from aloe_teleop.episode import SUPERVISIONS, Episode


@dataclass
class Run:
    """What was asked for, and what has come of it."""

    request: RunEpisodes.Goal
    asked_to_cancel: Callable[[], bool] = lambda: False
    feedback: Callable[[RunEpisodes.Feedback], None] = lambda _: None
    by_hand: bool = False  # its first reset needs no ~/continue: who starts by hand stands at the station
    ended: bool = False  # no further episode
    started: Episode | None = None  # the first one that ran
    result: RunEpisodes.Result = field(default_factory=RunEpisodes.Result)

    def check(self) -> None:
        """AloeError if the request cannot be run."""
        if self.request.supervision not in SUPERVISIONS:
            expected = "one of " + ", ".join(SUPERVISIONS)
            raise AloeError(f"Goal: supervision = {self.request.supervision!r}: expected {expected}.")
        if not self.request.task:
            raise AloeError("Goal: task is empty: expected the id of a task.")
        if self.request.time_limit < 0:
            limit = self.request.time_limit
            raise AloeError(f"Goal: time_limit = {limit}: expected seconds, or 0 for the task's own.")

    @property
    def cancelled(self) -> bool:
        return self.asked_to_cancel()

    def add(self, episode: Episode, path: str) -> None:
        """Take an episode that has ended into the result."""
        result, verdict = self.result, episode.verdict
        assert verdict is not None
        result.episode_ids.append(episode.episode_id)
        result.outcomes.append(int(verdict.outcome))
        result.ends.append(verdict.end)
        result.reasons.append(verdict.reason)
        result.paths.append(path)
        result.lengths.append(episode.steps * episode.dt)
        result.intervention_steps.append(episode.intervention_steps)
        result.steps.append(episode.steps)

    def conclude(self) -> None:
        """Say in the result what the run came to, unless an error has been said."""
        result, total = self.result, len(self.request.seeds)
        done, successes = len(result.episode_ids), self.result.outcomes.count(Outcome.SUCCESS)
        if self.cancelled:
            result.message = f"Cancelled after {done} of {total} episodes."
        elif not result.message:
            stopped = f"Stopped after {done} of {total} episodes: " if done < total else ""
            result.success = True
            result.message = f"{stopped}{done} episodes, {successes} successes."

    def tell(self, detail: str, episode: Episode | None = None) -> None:
        """Give feedback."""
        self.feedback(
            RunEpisodes.Feedback(
                done=len(self.result.episode_ids),
                total=len(self.request.seeds),
                successes=self.result.outcomes.count(Outcome.SUCCESS),
                episode_id=episode.episode_id if episode is not None else "",
                detail=detail,
            )
        )

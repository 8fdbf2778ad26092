"""What an episode manager knows of the running episode; no ROS."""

from __future__ import annotations

from dataclasses import dataclass, field

from aloe_core.episode.data import Outcome, Source

SUPERVISIONS = ("demonstrate", "supervise", "watch")


@dataclass(frozen=True)
class Verdict:
    """How an episode ended; `label_stamp` (ns) is the first state that no longer belongs to it, 0 if all do."""

    outcome: Outcome
    end: str  # terminated | truncated | aborted
    reason: str
    label_stamp: int = 0


@dataclass
class Episode:
    """Counts executed steps and takes the label; it is over with the first verdict.

    Stamps are ns of the joint states that were answered. The time limit counts steps, not seconds.
    """

    episode_id: str
    task: str
    instruction: str
    seed: int
    supervision: str
    dt: float  # s
    time_limit: float  # s
    verdict: Verdict | None = None
    discarded: bool = False  # its bag goes to trash/
    _stamps: list[int] = field(default_factory=list)
    _human: list[bool] = field(default_factory=list)

    @property
    def limit_steps(self) -> int:
        return max(1, round(self.time_limit / self.dt))

    def on_executed(self, episode_id: str, stamp: int, source: int) -> None:
        """One step ran; steps of another episode are ignored."""
        if episode_id != self.episode_id:
            return
        self._stamps.append(stamp)
        self._human.append(source == Source.HUMAN)
        if self.verdict is None and len(self._stamps) >= self.limit_steps:
            after = self._stamps[self.limit_steps - 1] + round(self.dt * 1e9)
            self.verdict = Verdict(Outcome.NONE, "truncated", f"time limit of {self.time_limit:g} s", after)

    def label(self, episode_id: str, outcome: int, stamp: int) -> str:
        """Take a label for `stamp` (0 = now) and return why not, empty if taken.

        A label that was true before the time limit counts even if it arrives just after it.
        """
        if episode_id not in ("", self.episode_id):
            return f"Label refused: episode {episode_id} is not running, {self.episode_id} is."
        if outcome not in (Outcome.SUCCESS, Outcome.FAILURE):
            return f"Label refused: outcome = {outcome}: expected 1 (success) or 2 (failure)."
        if not self._stamps:
            return "Label refused: no step has run yet."
        stamp = stamp or self._stamps[-1]
        if stamp <= self._stamps[0]:
            return "Label refused: its stamp is not after the first step of the episode."
        if self.verdict is not None and not (self.verdict.end == "truncated" and stamp <= self.verdict.label_stamp):
            return f"Label refused: the episode has ended already ({self.verdict.reason})."
        self.verdict = Verdict(Outcome(outcome), "terminated", f"labelled {Outcome(outcome).name.lower()}", stamp)
        return ""

    def stop(self, by: str) -> None:
        """End the episode early, without a verdict on the task, unless it has ended; what ran so far is kept."""
        if not self._stamps:
            self.abort(f"stopped by {by} before its first step.")
        elif self.verdict is None:
            after = self._stamps[-1] + round(self.dt * 1e9)
            self.verdict = Verdict(Outcome.NONE, "truncated", f"stopped early by {by}", after)

    def discard(self, by: str) -> None:
        """End the episode, whatever came of it; its bag is not to be learnt from."""
        self.discarded = True
        self.verdict = Verdict(Outcome.ABORTED, "aborted", f"discarded by {by}")

    def abort(self, reason: str) -> None:
        """End the episode without a result, unless it has one."""
        if self.verdict is None:
            self.verdict = Verdict(Outcome.ABORTED, "aborted", reason)

    @property
    def all_steps_seen(self) -> bool:
        """Whether the step before the label has arrived."""
        label = self.verdict.label_stamp if self.verdict is not None else 0
        return not label or (bool(self._stamps) and self._stamps[-1] >= label - 1.5e9 * self.dt)

    @property
    def steps(self) -> int:
        """Control steps that belong to the episode."""
        return len(self._kept())

    @property
    def intervention_steps(self) -> int:
        """Those of them that a person drove."""
        return sum(self._kept())

    def _kept(self) -> list[bool]:
        label = self.verdict.label_stamp if self.verdict is not None else 0
        return [human for stamp, human in zip(self._stamps, self._human, strict=True) if not label or stamp < label]

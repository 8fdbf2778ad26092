"""The trainer's last question: may what was learned be published?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloe_core.contract import RobotContract
from aloe_core.episode.data import EpisodeData
from aloe_core.errors import AloeError
from aloe_critic.evaluation.gate import Thresholds, Verdict, judge
from aloe_critic.evaluation.report import evaluate
from aloe_critic.evaluation.scores import Scorer, read_with_chunks
from aloe_critic.evaluation.shadow import shadow
from aloe_critic.replay.bags import FAILED, find_bags
from aloe_critic.replay.check import failed_check
from aloe_policy.runtime import Models


@dataclass(frozen=True)
class Decision:
    """What the gate says of an update, and the report it read; None where there was no critic to report on."""

    verdict: Verdict
    report: dict[str, Any] | None

    @property
    def metrics(self) -> dict[str, object]:
        """Figures for the checkpoint's manifest."""
        found: dict[str, object] = {"gate_abstained": list(self.verdict.abstentions)}
        if self.report is not None:
            for name in ("spearman", "auc_50", "ece"):
                found[f"held_out_{name}"] = self.report["autonomous"][name]["value"]
        return found


def decide(
    new: Models,
    previous: Models | None,
    held_out: Sequence[str],
    contract: RobotContract,
    thresholds: Thresholds,
    *,
    failed_takes: bool = False,
) -> Decision:
    """Score the held-out bags with the new critic and judge; AloeError if none of them can be used.

    Takes that failed their quality check are left out unless `failed_takes`.
    """
    if new.critic is None:
        return Decision(Verdict((), ("no critic to judge with.",)), None)
    scorer = Scorer(new, contract)
    episodes: list[EpisodeData] = []
    scores = []
    problem = ""
    for bag in find_bags(held_out):
        try:
            with bag.local() as directory:
                episode, chunks = read_with_chunks(Path(directory), contract)
            if (failed := failed_check(episode)) and not failed_takes:
                raise AloeError(f"{bag.name}: {FAILED.format(failed)}")
            scores.append(scorer.score(episode, chunks))
            episodes.append(episode)
        except AloeError as error:
            problem = problem or str(error)
    if not scores:
        raise AloeError(f"Gate: no usable bag in {', '.join(held_out)}{f' ({problem})' if problem else ''}.")
    report = evaluate(scores, scorer.scale, critic_version=new.version)
    if previous is not None:
        report["shadow"] = shadow(new, previous, episodes, contract)
    return Decision(judge(report, thresholds), report)

"""Off-policy evaluation: values of recorded chunks, how they agree with what happened, and the gate that reads it."""

from aloe_critic.evaluation.gate import Thresholds, Verdict, gate, judge, load_thresholds
from aloe_critic.evaluation.report import evaluate
from aloe_critic.evaluation.scores import EpisodeScores, RewardScale, Scorer, reward_scale
from aloe_critic.evaluation.shadow import shadow

__all__ = [
    "EpisodeScores",
    "RewardScale",
    "Scorer",
    "Thresholds",
    "Verdict",
    "evaluate",
    "gate",
    "judge",
    "load_thresholds",
    "reward_scale",
    "shadow",
]

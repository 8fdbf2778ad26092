"""Replay: episodes as arrays that a learner can index, in memory or in a store on disk."""

from aloe_critic.replay.bags import load_bags
from aloe_critic.replay.sampling import Sampler, window_weights
from aloe_critic.replay.store import ReplayStore
from aloe_critic.replay.view import Replay
from aloe_critic.replay.windows import Windows

__all__ = ["Replay", "ReplayStore", "Sampler", "Windows", "load_bags", "window_weights"]

"""A policy of LeRobot as a policy server offers it."""

from __future__ import annotations

from typing import Any

from aloe_core.errors import AloeError
from aloe_policy.remote import offer as keys
from aloe_policy.remote.lerobot import sampling
from aloe_policy.remote.lerobot.inputs import Inputs
from aloe_policy.remote.lerobot.judge import find_judge
from aloe_policy.remote.lerobot.loading import LeRobotPolicy
from aloe_policy.remote.offer import ServerOffer
from aloe_policy.swap import MODEL_ERRORS

MAX_SAMPLES = 64


class LeRobotService:
    """Takes an observation as `Inputs` says; actions are in the units the policy was trained in.

    Of several samples a critic that was saved beside the policy chooses one.
    """

    def __init__(self, policy: LeRobotPolicy) -> None:
        self._policy, self._inputs, self._judge = policy, Inputs(policy.model.config), find_judge(policy)
        batch = policy.before(self._inputs.one(self._inputs.made_up()))
        horizon = sampling.sample(policy, batch, 1).shape[2]
        self.offer = ServerOffer(
            version=policy.version,
            horizon=horizon,
            images=self._inputs.sizes,
            max_samples=MAX_SAMPLES,
            chooses=self._judge is not None,
        )

    def answer(self, observation: dict[str, Any]) -> dict[str, Any]:
        judge = None if observation.get(keys.ALL) else self._judge
        most = min(judge.candidates, MAX_SAMPLES) if judge is not None else MAX_SAMPLES
        samples = observation.get(keys.SAMPLES, 1 if judge is None else most)
        if isinstance(samples, bool) or not isinstance(samples, int) or not 1 <= samples <= MAX_SAMPLES:
            raise AloeError(f"Observation: {keys.SAMPLES} = {samples!r}: expected a whole number, 1 to {MAX_SAMPLES}.")
        samples = min(samples, most)
        try:
            batch = self._policy.before(self._inputs.one(observation))
            seen = None if judge is None else sampling.encode(self._policy, batch)  # once, for chunks and critic
            chunks = sampling.sample(self._policy, batch, samples, seen)[0].cpu().numpy()
            features = None if judge is None else sampling.features(self._policy, batch, seen)
        except MODEL_ERRORS as error:
            text = " ".join(str(error).split())[:400]
            raise AloeError(f"Policy {self._policy.version}: {type(error).__name__}: {text}.") from error
        answer = {"actions": chunks[0], keys.SAMPLED: samples}
        if judge is None:
            return {**answer, keys.ALL: chunks} if observation.get(keys.ALL) else answer
        best, value = judge.choose(features, observation["observation/state"], chunks)
        return {**answer, "actions": chunks[best], keys.VALUE: value}

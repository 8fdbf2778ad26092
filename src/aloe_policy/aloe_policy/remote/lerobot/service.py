"""A policy of LeRobot as a policy server offers it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aloe_core.errors import AloeError
from aloe_policy.remote import offer as keys
from aloe_policy.remote.lerobot import sampling
from aloe_policy.remote.lerobot.fast.policy import FastChunks
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

    def __init__(self, policy: LeRobotPolicy, fast: FastChunks | None = None) -> None:
        """`fast` computes chunks and features in place of LeRobot's own code; it is warmed up here."""
        self._policy, self._inputs, self._judge = policy, Inputs(policy.model.config), find_judge(policy)
        self._fast = fast
        batch = policy.before(self._inputs.one(self._inputs.made_up()))
        most = 1 if self._judge is None else min(self._judge.candidates, MAX_SAMPLES)
        horizon = self._computed(batch, most, judged=self._judge is not None)[0].shape[1]
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
            found, features = self._computed(batch, samples, judged=judge is not None)
            chunks = found.cpu().numpy()
        except MODEL_ERRORS as error:
            text = " ".join(str(error).split())[:400]
            raise AloeError(f"Policy {self._policy.version}: {type(error).__name__}: {text}.") from error
        answer = {"actions": chunks[0], keys.SAMPLED: samples}
        if judge is None or features is None:
            return {**answer, keys.ALL: chunks} if observation.get(keys.ALL) else answer
        best, value = judge.choose(features, observation["observation/state"], chunks)
        return {**answer, "actions": chunks[best], keys.VALUE: value}

    def _computed(self, batch: dict[str, Any], n: int, *, judged: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return n chunks [n, H, A], and what a critic sees [1, Z], both from one encoding."""
        if self._fast is not None:
            chunks, pooled = self._fast(batch, n, features=judged)
            return sampling.in_units(self._policy, chunks[None])[0], (
                None if pooled is None else sampling.with_state(pooled, batch)
            )
        seen = sampling.encode(self._policy, batch) if judged else None
        chunks = sampling.sample(self._policy, batch, n, seen)[0]
        return chunks, sampling.features(self._policy, batch, seen) if judged else None

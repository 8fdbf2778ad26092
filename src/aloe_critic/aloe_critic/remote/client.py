"""The trainer's end of the connection to a server that trains."""

from __future__ import annotations

from typing import Any

import numpy as np

from aloe_core.errors import AloeError
from aloe_critic.remote import protocol as p
from aloe_policy.remote.connection import Connection

Observations = dict[str, Any]  # arrays [B, ...] and a list of B prompts, in the server's words


class TrainingClient:
    """Verbs of `protocol` as methods. For one thread; it connects when it must, and again after an error.

    Lost (an AloeError) means that the server went away: started again it goes on, from `begin`.
    """

    def __init__(self, url: str, timeout: float = 600.0, api_key: str = "") -> None:
        """Connect; AloeError if there is no server, or one that does not train. `timeout`: s, of one request."""
        if not url.startswith(("ws://", "wss://")):
            raise AloeError(f"policy_server = {url!r}: expected ws://host:port or wss://host:port.")
        self.url, self._timeout, self._api_key = url, timeout, api_key
        self._connection: Connection | None = None
        self.offer = self._open()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def begin(self, run: str, seed: int) -> tuple[int, str]:
        """Begin a run or go on with it; return the steps it has behind it, and the version it was saved as or empty."""
        answer = self._ask({p.DO: p.BEGIN, p.RUN: run, p.SEED: seed})
        return self._whole(answer, p.STEPS), str(answer.get(p.VERSION, ""))

    def features(self, obs: Observations) -> np.ndarray:
        """float32 [B, Z]."""
        answer = self._ask({**obs, p.DO: p.FEATURES})
        return self._array(answer, p.FEATURES, (len(obs["prompt"]), self.offer.training.feature_dim))

    def sample(self, obs: Observations, n: int, seed: int) -> np.ndarray:
        """n chunks of each observation, float32 [B, n, H, A] in the server's units."""
        training = self.offer.training
        answer = self._ask({**obs, p.DO: p.SAMPLE, p.SAMPLES: n, p.SEED: seed})
        return self._array(answer, p.CHUNKS_OUT, (len(obs["prompt"]), n, training.horizon, training.action_dim))

    def losses(self, obs: Observations, chunks: np.ndarray, length: np.ndarray, seed: int) -> np.ndarray:
        """Loss of each chunk [B, H, A], of which the first length [B] steps exist; changes nothing."""
        answer = self._ask({**obs, p.DO: p.LOSS, p.CHUNKS: chunks, p.LENGTH: length, p.SEED: seed})
        return self._array(answer, p.LOSS, (len(chunks),))

    def step(
        self,
        run: str,
        number: int,
        obs: Observations,
        chunks: np.ndarray,
        length: np.ndarray,
        weight: np.ndarray,
        rate: float,
        clip: float,
    ) -> tuple[float, float]:
        """Take a step on the loss weighted with [B]; return it and the norm of its gradient."""
        batch = {p.CHUNKS: chunks, p.LENGTH: length, p.WEIGHT: weight}
        answer = self._ask({**obs, p.DO: p.STEP, p.RUN: run, p.NUMBER: number, **batch, p.RATE: rate, p.CLIP: clip})
        return self._number(answer, p.LOSS), self._number(answer, p.NORM)

    def save(
        self,
        run: str,
        method: str,
        contract_hash: str,
        metrics: dict[str, Any],
        critic: bytes | None,
        critic_config: dict[str, Any],
    ) -> tuple[str, str]:
        """Have the policy saved as a version, with a critic beside it; return its name and folder on the server."""
        request: dict[str, Any] = {p.DO: p.SAVE, p.RUN: run, p.METHOD: method, p.CONTRACT: contract_hash}
        if critic is not None:
            request[p.CRITIC] = {"weights": critic, "config": critic_config}
        answer = self._ask({**request, p.METRICS: metrics})
        return str(answer.get(p.VERSION, "")), str(answer.get(p.FOLDER, ""))

    def _open(self) -> p.TrainingServerOffer:
        connection = Connection(self.url, self._timeout, self._api_key)
        try:
            offer = p.read_training_offer(connection.metadata, self.url)
        except AloeError:
            connection.close()
            raise
        self._connection = connection
        return offer

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._connection is None:
            offer = self._open()
            if offer.training != self.offer.training:
                raise AloeError(
                    f"Policy server {self.url}: it now trains {offer.training.trains} of {offer.training.base}: "
                    f"expected {self.offer.training.trains} of {self.offer.training.base}, as before."
                )
        assert self._connection is not None
        try:
            return self._connection.request(request, self._timeout)
        except AloeError:
            self.close()
            raise

    def _array(self, answer: dict[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
        value = answer.get(key)
        if not isinstance(value, np.ndarray) or value.shape != shape or not np.isfinite(value).all():
            got = f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise AloeError(f"Policy server {self.url}: its {key} is {got}: expected finite numbers of shape {shape}.")
        return value.astype(np.float32)

    def _number(self, answer: dict[str, Any], key: str) -> float:
        value = answer.get(key)
        if not isinstance(value, float):
            raise AloeError(f"Policy server {self.url}: its {key} is {value!r}: expected a number.")
        return value

    def _whole(self, answer: dict[str, Any], key: str) -> int:
        value = answer.get(key)
        if not isinstance(value, int) or value < 0:
            raise AloeError(f"Policy server {self.url}: its {key} is {value!r}: expected a whole number.")
        return value

"""A policy behind a socket as a PolicyRuntime; what it answers is checked and brought into the contract's terms."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_core.types import Chunk, Inference, Observation, Value
from aloe_policy.remote import offer as keys
from aloe_policy.remote.connection import Connection
from aloe_policy.remote.link import Link
from aloe_policy.remote.mapping import Mapping, default_mapping
from aloe_policy.remote.offer import ServerOffer, read_offer
from aloe_policy.remote.translate import Translator
from aloe_policy.swap import check_inference, synthetic


@dataclass(frozen=True)
class RemoteOptions:
    """How to reach a policy server and what to ask of it."""

    url: str  # ws://host:port or wss://host:port
    timeout: float = 1.0  # s, of one request
    warm_up: float = 120.0  # s, of the first one: a server may compile then
    candidates: int = 8  # chunks to sample where the server has a critic that chooses
    chunking: str = "receding"  # other ways need a server that offers them
    api_key: str = ""

    def __post_init__(self) -> None:
        if not self.url.startswith(("ws://", "wss://")):
            raise AloeError(f"remote_url = {self.url!r}: expected ws://host:port or wss://host:port.")


@dataclass(frozen=True)
class _Server:
    """The server that was accepted last."""

    offer: ServerOffer
    translator: Translator


class RemoteRuntime:
    """PolicyRuntime of a policy server that may come and go.

    A server drives after it has answered two made-up observations, the second within the time-out. `infer` is for one
    thread; without a connection it raises at once. `version` is that of the server that was accepted last. `changed`
    and `crashed` are those of Link.
    """

    def __init__(
        self,
        options: RemoteOptions,
        contract: RobotContract,
        mapping: Mapping | None = None,
        changed: Callable[[], None] = lambda: None,
        crashed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._options, self._contract = options, contract
        self._mapping = mapping or default_mapping(contract)
        self._server: _Server | None = None
        self._link = Link(options.url, options.timeout, self._accept, changed, crashed, options.api_key)

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        self._link.start()

    def close(self) -> None:
        self._link.close()

    @property
    def problem(self) -> str | None:
        """Why the server cannot be asked now; None if it can."""
        return self._link.problem

    @property
    def version(self) -> str:
        return self._server.offer.version if self._server is not None else self._options.url

    def infer(self, obs: Observation) -> Inference:
        """Return the server's chunk; AloeError if it cannot be asked or its answer cannot run."""
        server = self._server
        if server is None:
            raise AloeError(self.problem or f"Policy server {self._options.url}: not connected.")
        start = time.perf_counter()
        answer = self._link.request(self._request(obs, server))
        inference = self._inference(obs, server, answer, start)
        check_inference(inference, self._contract, server.offer.version)
        return inference

    def sample(self, obs: Observation, n: int) -> np.ndarray:
        """Return n chunks float32 [n, H, A]: of one request where the server offers that, else of n requests."""
        server = self._server
        if server is None:
            raise AloeError(self.problem or f"Policy server {self._options.url}: not connected.")
        chunks: list[np.ndarray] = []
        while len(chunks) < n:
            request = server.translator.observation(obs)
            many = min(n - len(chunks), server.offer.max_samples)
            if many > 1:
                request |= {keys.SAMPLES: many, keys.ALL: True}
            if server.offer.repeatable:
                request |= {keys.SEED: obs.seed + len(chunks), keys.CHUNK_NUMBER: obs.chunk_number}
            answer = self._link.request(request)
            rows = answer.get(keys.ALL) if many > 1 else None
            if rows is not None:
                chunks += [server.translator.positions(r, obs.state, self._who(server)) for r in rows]
            else:
                chunks.append(server.translator.actions(answer, obs.state, self._who(server)))
        return np.stack(chunks[:n])

    def _accept(self, connection: Connection) -> None:
        """AloeError unless the server behind a new connection fits the contract and keeps the time."""
        offer = read_offer(connection.metadata, self._options.url)
        self._check(offer)
        server = _Server(offer, Translator(self._mapping, self._contract, offer.images))
        obs = synthetic(self._contract)
        for limit in (self._options.warm_up, self._options.timeout):
            start = time.perf_counter()
            answer = connection.request(self._request(obs, server), limit)
            check_inference(self._inference(obs, server, answer, start), self._contract, offer.version)
        self._server = server

    def _check(self, offer: ServerOffer) -> None:
        what = f"Policy server {self._options.url}"
        if offer.contract_hash and offer.contract_hash != self._contract.hash:
            raise AloeError(
                f"{what}: its policy {offer.version} is for a contract {offer.contract_hash}: expected "
                f"{self._contract.hash}, that of {self._contract.name}."
            )
        if self._options.chunking not in ("receding", offer.chunking):
            raise AloeError(
                f"{what}: chunking = {self._options.chunking!r}, and the server offers {offer.chunking!r}: expected "
                "receding, or a server started with that --chunking."
            )

    def _request(self, obs: Observation, server: _Server) -> dict[str, Any]:
        request, offer = server.translator.observation(obs), server.offer
        if offer.repeatable:
            request |= {keys.SEED: obs.seed, keys.CHUNK_NUMBER: obs.chunk_number}
        if offer.chooses:
            request[keys.SAMPLES] = min(self._options.candidates, offer.max_samples)
        if obs.plan is not None and self._options.chunking != "receding":
            request[keys.PLAN], request[keys.FROZEN] = np.asarray(obs.plan.actions), obs.plan.frozen
        return request

    def _inference(self, obs: Observation, server: _Server, answer: dict[str, Any], start: float) -> Inference:
        who, version = self._who(server), server.offer.version
        try:
            value = _value(answer[keys.VALUE], version) if answer.get(keys.VALUE) else None
            frozen, sampled = int(answer.get(keys.FROZEN, 0)), int(answer.get(keys.SAMPLED, 1))
        except (TypeError, ValueError, KeyError) as error:
            raise AloeError(f"{who}: {keys.VALUE} or a count of its answer makes no sense ({error}).") from error
        chunk = Chunk(
            chunk_id=f"{version}/{obs.seed}/{obs.chunk_number}/{obs.stamp}",
            stamp=obs.stamp,
            dt=self._contract.dt,
            actions=server.translator.actions(answer, obs.state, who),
            execute=self._contract.chunk.execute,
            policy_version=version,
            frozen_steps=frozen,
        )
        return Inference(chunk, value, sampled, time.perf_counter() - start)

    def _who(self, server: _Server) -> str:
        return f"Policy server {self._options.url}, policy {server.offer.version}"


def _value(said: dict[str, Any], version: str) -> Value:
    numbers = {name: float(said[name]) for name in ("q_min", "q_mean", "q_std", "v")}
    return Value(**numbers, critic_version=str(said.get("critic_version", version)))

"""A policy service that also trains: verbs of `protocol` in, answers out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aloe_core.errors import AloeError
from aloe_critic.remote import protocol as p
from aloe_critic.remote.session import Session
from aloe_critic.remote.trainee import Observations, Trainee
from aloe_policy.remote.server import PolicyService
from aloe_policy.swap import MODEL_ERRORS

Answer = dict[str, Any]
log = logging.getLogger("aloe.policy_server")


class TrainingService:
    """Drives as `driving` does until the first step; after it the policy has no version, and only trains."""

    def __init__(self, driving: PolicyService, trainee: Trainee, session: Session) -> None:
        self._driving, self._trainee, self._session = driving, trainee, session
        spec = trainee.spec
        self.offer = p.TrainingServerOffer(
            **driving.offer.model_dump(),
            training=p.TrainingOffer(
                base=trainee.base,
                trains=trainee.trains,
                loss=trainee.loss,
                feature_dim=spec.feature_dim,
                action_dim=spec.action_dim,
                horizon=spec.horizon,
            ),
        )
        self._lock = threading.Lock()  # `keep` may be called while a request is answered
        self._verbs: dict[str, Callable[[dict[str, Any]], Answer]] = {
            p.BEGIN: self._begin,
            p.FEATURES: self._features,
            p.SAMPLE: self._sample,
            p.LOSS: self._loss,
            p.STEP: self._step,
            p.SAVE: self._save,
        }

    def answer(self, request: dict[str, Any]) -> Answer:
        verb = request.get(p.DO)
        with self._lock:
            if verb is None:
                if self._session.changed:
                    raise AloeError(
                        "This server trains, and its policy has changed: serve a version it saved to drive."
                    )
                return self._driving.answer(request)
            if verb not in self._verbs:
                raise AloeError(f"Request: {p.DO} = {verb!r}: expected one of {', '.join(self._verbs)}.")
            try:
                return self._verbs[verb](request)
            except MODEL_ERRORS as error:
                text = " ".join(str(error).split())[:400]
                raise AloeError(f"Request {verb}: {type(error).__name__}: {text}.") from error

    def keep(self) -> None:
        """Save the state of the run, when the request under way is answered."""
        with self._lock:
            if self._session.changed:
                self._session.keep()

    def _begin(self, request: dict[str, Any]) -> Answer:
        run = _text(request, p.RUN)
        steps, version = self._session.begin(run, _whole(request, p.SEED, 0, 2**62))
        log.info("run %s: %d steps so far%s", run, steps, f", saved as {version}" if version else "")
        return {p.STEPS: steps, p.VERSION: version}

    def _features(self, request: dict[str, Any]) -> Answer:
        return {p.FEATURES: _array(self._trainee.features(_observations(request)))}

    def _sample(self, request: dict[str, Any]) -> Answer:
        torch.manual_seed(_whole(request, p.SEED, 0, 2**62))
        n = _whole(request, p.SAMPLES, 1, 256)
        return {p.CHUNKS_OUT: _array(self._trainee.sample(_observations(request), n))}

    def _loss(self, request: dict[str, Any]) -> Answer:
        obs, chunks, length = self._examples(request)
        torch.manual_seed(_whole(request, p.SEED, 0, 2**62))
        self._trainee.train(False)
        with torch.no_grad():
            return {p.LOSS: _array(self._trainee.losses(obs, chunks, length))}

    def _step(self, request: dict[str, Any]) -> Answer:
        obs, chunks, length = self._examples(request)
        weight = _numbers(request, p.WEIGHT, (len(chunks),))
        if (weight < 0).any():
            raise AloeError(f"Request: {p.WEIGHT} has a number below 0: expected weights from 0.")
        loss, norm = self._session.step(
            _text(request, p.RUN),
            _whole(request, p.NUMBER, 0, 2**31),
            obs,
            chunks,
            length,
            weight,
            _positive(request, p.RATE),
            _positive(request, p.CLIP),
        )
        return {p.LOSS: loss, p.NORM: norm}

    def _save(self, request: dict[str, Any]) -> Answer:
        critic = request.get(p.CRITIC)
        version, folder = self._session.save(
            _text(request, p.RUN),
            _text(request, p.METHOD),
            _text(request, p.CONTRACT),
            request.get(p.METRICS) or {},
            (bytes(critic["weights"]), critic["config"]) if critic else None,
        )
        return {p.VERSION: version, p.FOLDER: str(folder.resolve())}

    def _examples(self, request: dict[str, Any]) -> tuple[Observations, Tensor, Tensor]:
        obs, spec = _observations(request), self._trainee.spec
        rows = len(obs["prompt"])
        chunks = _numbers(request, p.CHUNKS, (rows, spec.horizon, spec.action_dim))
        length = request.get(p.LENGTH)
        if not isinstance(length, np.ndarray) or length.shape != (rows,) or length.dtype.kind not in "iu":
            raise AloeError(f"Request: {p.LENGTH}: expected {rows} whole numbers.")
        if (length < 1).any() or (length > spec.horizon).any():
            raise AloeError(f"Request: {p.LENGTH}: expected 1 to {spec.horizon} steps of each chunk.")
        return obs, chunks, torch.from_numpy(length.astype(np.int64))


def _observations(request: dict[str, Any]) -> Observations:
    """The part of a request that is observations, B of each array and prompt."""
    obs = {key: value for key, value in request.items() if not key.startswith("aloe/")}
    prompts = obs.get("prompt")
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= p.MAX_ROWS:
        raise AloeError(f"Request: prompt: expected a list of 1 to {p.MAX_ROWS} strings, one an observation.")
    for key, value in obs.items():
        if key != "prompt" and (not isinstance(value, np.ndarray) or value.ndim < 1 or len(value) != len(prompts)):
            raise AloeError(f"Request: {key}: expected an array of {len(prompts)} rows, as there are prompts.")
    return obs


def _numbers(request: dict[str, Any], key: str, shape: tuple[int, ...]) -> Tensor:
    value = request.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.shape != shape:
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise AloeError(f"Request: {key} is {got}: expected numbers of shape {shape}.")
    if not np.isfinite(value).all():
        raise AloeError(f"Request: {key} holds numbers that are not finite.")
    return torch.from_numpy(value.astype(np.float32))


def _whole(request: dict[str, Any], key: str, low: int, high: int) -> int:
    value = request.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise AloeError(f"Request: {key} = {value!r}: expected a whole number, {low} to {high}.")
    return int(value)


def _positive(request: dict[str, Any], key: str) -> float:
    value = request.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise AloeError(f"Request: {key} = {value!r}: expected a number above 0.")
    return float(value)


def _text(request: dict[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= 100:
        raise AloeError(f"Request: {key} = {value!r}: expected a string of 1 to 100 characters.")
    return value


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()

"""What a server that trains takes beyond observations, over the same connection.

A request with the key `aloe/do` is one of the verbs below. Its observations are those that drive, stacked: arrays
[B, ...] and a list of B prompts. Chunks are float32 [B, H, A] in the server's units.

| verb | takes | gives |
|---|---|---|
| begin | run, seed | steps that this run has behind it, version it was saved as |
| features | observations | float32 [B, Z] |
| sample | observations, samples, seed | chunks float32 [B, n, H, A] |
| loss | observations, chunks, length, seed | loss of each chunk, float32 [B] |
| step | the same, run, step, weight, rate, clip | weighted loss before the step, norm of its gradient |
| save | run, method, contract_hash, metrics, critic | version and folder |
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aloe_core.errors import AloeError
from aloe_policy.remote.offer import ALL, KEY, SAMPLES, SEED, ServerOffer

DO = "aloe/do"
BEGIN, FEATURES, SAMPLE, LOSS, STEP, SAVE = "begin", "features", "sample", "loss", "step", "save"
RUN = "aloe/run"  # name of a trainer's run; the steps of two runs never mix
NUMBER = "aloe/step"  # steps that the trainer believes were taken before this one
CHUNKS, LENGTH, WEIGHT = "aloe/chunks", "aloe/length", "aloe/weight"  # [B, H, A]; int64 [B], valid steps; float32 [B]
RATE, CLIP = "aloe/rate", "aloe/clip"  # learning rate of the step; largest norm of its gradient
METHOD, CONTRACT, METRICS, CRITIC = "aloe/method", "aloe/contract_hash", "aloe/metrics", "aloe/critic"
STEPS, VERSION, FOLDER, NORM = "aloe/steps", "aloe/version", "aloe/folder", "aloe/norm"  # of answers
CHUNKS_OUT = ALL
MAX_ROWS = 1024  # observations of one request

__all__ = ["CHUNKS_OUT", "SAMPLES", "SEED", "TrainingOffer", "TrainingServerOffer", "read_training_offer"]


class TrainingOffer(BaseModel):
    """What a server that trains promises; beside what it says of driving."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    base: str = Field(min_length=1, max_length=200)  # version that was loaded when the server started
    trains: str = Field(max_length=40)  # which weights move: expert, lora
    loss: str = Field(max_length=40)  # flow matching, L1
    feature_dim: int = Field(ge=1)  # Z
    action_dim: int = Field(ge=1)  # A
    horizon: int = Field(ge=1)  # H


class TrainingServerOffer(ServerOffer):
    """The offer of such a server; clients that only drive read past `training`."""

    training: TrainingOffer


def read_training_offer(metadata: Any, url: str) -> TrainingServerOffer:
    """Return what the first message of the server at `url` offers; AloeError if it does not train."""
    said = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(said, dict) or not said.get("training"):
        raise AloeError(
            f"Policy server {url}: it does not train: expected one started by "
            "./aloe policy-server --lerobot DIR --train expert --out DIR."
        )
    try:
        return TrainingServerOffer.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AloeError(f"Policy server {url}: metadata {KEY}.{where}: {first['msg']}.") from error

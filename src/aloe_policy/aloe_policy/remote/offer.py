"""What a policy server says of itself in its first message.

An openpi server says little (`{}`, or the reset pose of its robot). A server of this suite adds one key, `aloe`, whose
value is a ServerOffer as a dict; a client that does not know the key reads past it.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aloe_core.errors import AloeError
from aloe_policy.remote import wire

KEY = "aloe"

# Further keys of an observation, sent only to servers that offer what they ask for.
SEED, CHUNK_NUMBER = "aloe/seed", "aloe/chunk_number"  # repeatable sampling
SAMPLES, ALL = "aloe/samples", "aloe/all"  # chunks to sample; whether to send all of them
PLAN, FROZEN = "aloe/plan", "aloe/frozen"  # float32 [L, A] and d of aloe_core.types.Plan
# Further keys of an answer, beside FROZEN: rows that are those of the plan; and ALL: [n, H, A].
VALUE, SAMPLED = "aloe/value", "aloe/sampled"  # fields of aloe_core.types.Value; chunks that were sampled


class ServerOffer(BaseModel):
    """What a server promises; what an openpi server does not say has the defaults."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer server may say more

    version: str = Field(default="", max_length=200)
    contract_hash: str = ""  # empty: it knows of no contract
    horizon: int = 0  # rows of a chunk, at least; 0: not said
    images: dict[str, tuple[int, int]] = Field(default_factory=dict)  # key of the observation -> height, width
    max_samples: int = 1  # largest SAMPLES
    chooses: bool = False  # has a critic, which chooses among its samples
    repeatable: bool = False  # takes SEED and CHUNK_NUMBER
    chunking: str = "receding"  # other than that: takes PLAN

    def as_metadata(self) -> dict[str, Any]:
        """Return the first message of a server that offers this."""
        return {KEY: self.model_dump(mode="json")}


def read_offer(metadata: Any, url: str) -> ServerOffer:
    """Return what the first message of the server at `url` offers; AloeError if it makes no sense.

    A server that gives no version gets one: its address and a hash of all it says.
    """
    if not isinstance(metadata, dict):
        raise AloeError(f"Policy server {url}: its first message is a {type(metadata).__name__}: expected metadata.")
    try:
        offer = ServerOffer.model_validate(metadata.get(KEY, {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise AloeError(f"Policy server {url}: metadata {KEY}.{where}: {first['msg']}.") from error
    if offer.version:
        return offer
    said = metadata.get("version")
    version = said if isinstance(said, str) and said else f"{urlsplit(url).netloc}@{_digest(metadata)}"
    return offer.model_copy(update={"version": version[:200]})


def _digest(metadata: dict[str, Any]) -> str:
    return hashlib.sha256(wire.pack(metadata)).hexdigest()[:8]

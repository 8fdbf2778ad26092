"""Which module here says what ALOE needs of a type of LeRobot's policies.

Each has EXPERT (how the weights that may move begin), ADAPTED (the linear layers that adapters may be put on), LOSS
(what it is, in a word or two), pooled(model, batch) -> [B, Z], samples(model, batch, n) -> [B * n, H, A], the n of each
observation side by side, and losses(model, batch) -> [B]. A batch is what the policy's preprocessor gives.
"""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = {"act": "act", "smolvla": "smolvla", "pi0": "pi", "pi05": "pi"}
KINDS = tuple(_MODULES)


def find(kind: str) -> ModuleType | None:
    """Return the module that knows LeRobot's type `kind`; None if there is none."""
    return importlib.import_module(f"aloe_policy.remote.lerobot.{_MODULES[kind]}") if kind in _MODULES else None

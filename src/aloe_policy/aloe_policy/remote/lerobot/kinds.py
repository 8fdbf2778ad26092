"""Which module here says what ALOE needs of a type of LeRobot's policies.

Each has EXPERT (how the weights that may move begin), ADAPTED (the linear layers that adapters may be put on), LOSS
(what it is, in a word or two) and, of a batch that the policy's preprocessor gives,

    encode(model, batch)                     what is seen, whatever is done
    pooled(model, encoding, batch)           features of it [B, Z]
    samples(model, encoding, batch, n)       chunks [B * n, H, A], the n of each observation side by side
    losses(model, batch)                     loss of each chunk [B]
"""

from __future__ import annotations

import importlib
from types import ModuleType

from aloe_core.errors import AloeError
from aloe_policy.remote.lerobot.loading import LeRobotPolicy

_MODULES = {"act": "act", "smolvla": "smolvla", "pi0": "pi", "pi05": "pi"}


def find(kind: str) -> ModuleType | None:
    """Return the module that knows LeRobot's type `kind`; None if there is none."""
    return importlib.import_module(f"aloe_policy.remote.lerobot.{_MODULES[kind]}") if kind in _MODULES else None


def known(policy: LeRobotPolicy) -> ModuleType:
    """Return the module that knows this policy's type; AloeError if there is none."""
    name = policy.model.config.type
    kind = find(name)
    if kind is None:
        raise AloeError(
            f"Policy {policy.version}: {name} can be served, but has no features, loss or training here: "
            f"expected one of {', '.join(_MODULES)}."
        )
    return kind

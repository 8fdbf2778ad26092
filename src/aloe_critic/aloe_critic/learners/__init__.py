"""One learner a file, behind `--method`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_critic.hyper import Hyper, make_hyper
from aloe_critic.job import Job, Learned
from aloe_critic.learners import aloe, awr, bc, filtered_bc, hg_dagger, hil_serl, iql, mc, qc, recap, td1

METHODS: dict[str, Callable[[Job], Learned]] = {
    "bc": bc.learn,
    "filtered_bc": filtered_bc.learn,
    "hg_dagger": hg_dagger.learn,
    "awr": awr.learn,
    "recap": recap.learn,
    "aloe": aloe.learn,
    "aloe_select": aloe.learn_select,
    "aloe_takeover": aloe.learn_takeover,
    "iql": iql.learn,
    "td1": td1.learn,
    "mc": mc.learn,
    "qc": qc.learn,
    "hil_serl": hil_serl.learn,
}

OWN: dict[str, dict[str, Any]] = {"aloe_takeover": aloe.TAKEOVER}  # hyperparameters by which a method differs


def hyper_of(name: str, overrides: dict[str, Any], contract: RobotContract) -> Hyper:
    """Return the defaults of the method called `name` with `overrides`, on a robot; AloeError as of `Hyper.on`."""
    return make_hyper(OWN.get(name, {}) | overrides).on(contract)


def method(name: str) -> Callable[[Job], Learned]:
    """Return the learner called `name`; AloeError lists those there are."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise AloeError(f"method = {name!r}: expected one of {', '.join(METHODS)}.{hint}")
    return METHODS[name]

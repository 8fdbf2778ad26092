"""Named changes of hyperparameters, for ablations: `aloe_select+priors` is aloe_select with randomised priors.

None changes how the first policy is cloned, so that all variants start from the same one.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError

LONGEST = "longest"  # stands for the longest long_chunk there can be

# Methods in which a variant changes something.
WEIGHTED = ("aloe", "aloe_select", "aloe_takeover", "td1", "mc")
BY_TD = ("aloe", "aloe_select", "aloe_takeover", "td1")
SELECTING = ("aloe_select", "aloe_takeover", "mc")
BY_CHUNKS = ("aloe", "aloe_select", "aloe_takeover")
AS_PUBLISHED = ("aloe", "aloe_select", "td1")  # of what aloe_takeover changes by itself
REFITTED = (*WEIGHTED, "filtered_bc", "hg_dagger", "awr", "iql", "qc")


@dataclass(frozen=True)
class Variant:
    """What one name changes, and what for."""

    about: str
    overrides: dict[str, Any]
    methods: tuple[str, ...] = WEIGHTED


VARIANTS: dict[str, Variant] = {
    # The lower bound
    "shared": Variant("one trunk under all heads, as in the paper", {"shared_trunk": True}),
    "priors": Variant("independent trunks with randomised priors (arXiv 1806.03335)", {"prior_scale": 0.3}),
    "quantile": Variant(
        "Q_pess and target are lower quartiles of the heads", {"pessimism": "quantile", "target": "quantile"}
    ),
    "lcb": Variant("Q_pess: mean less a standard deviation", {"pessimism": "lcb"}),
    "mean": Variant("no pessimism: Q_pess and target are means of the heads", {"pessimism": "mean", "target": "mean"}),
    "own": Variant("each head has a target of its own", {"target": "own"}, BY_TD),
    "heads2": Variant("2 heads", {"heads": 2}),
    "heads10": Variant("10 heads", {"heads": 10}),
    # N chunks at run time, of which the best by Q_pess runs; the default is 8
    "n1": Variant("1 chunk at run time", {"candidates": 1}, SELECTING),
    "n4": Variant("4 chunks at run time", {"candidates": 4}, SELECTING),
    "n16": Variant("16 chunks at run time", {"candidates": 16}, SELECTING),
    "n32": Variant("32 chunks at run time", {"candidates": 32}, SELECTING),
    # The target
    "distilled": Variant(
        "critic of the longest chunks, distilled into one of those that run (DQC, arXiv 2512.10926)",
        {"long_chunk": LONGEST},
        BY_CHUNKS,
    ),
    "best8": Variant("target: the best of 8 chunks, as Q-chunking", {"target_samples": 8, "target_pick": "max"}, BY_TD),
    "chunk": Variant("the critic scores whole chunks, not the steps that run", {"scored": "chunk"}, (*BY_CHUNKS, "mc")),
    "never": Variant("a takeover says that the policy would never have succeeded", {"takeover": "never"}, AS_PUBLISHED),
    "found": Variant(
        "a takeover is worth the state that the person found, as in the paper",
        {"takeover": "bootstrap"},
        ("aloe_takeover",),
    ),
    "segment": Variant("a correction is credited as a whole", {"continuation": "segment"}, AS_PUBLISHED),
    # The policy
    "refit": Variant("each round refits the warm start", {"refit_from": "warm_start"}, REFITTED),
    # Ranked advantages and epsilon 5 reach no less than 11 %.
    "size12": Variant("weights of an effective sample size of 12 %", {"effective_size": 0.12}, (*WEIGHTED, "awr")),
    "size50": Variant("weights of an effective sample size of 50 %", {"effective_size": 0.5}, (*WEIGHTED, "awr")),
    "equal": Variant("equal weights", {"effective_size": 1.0}, (*WEIGHTED, "awr")),
    "std": Variant("advantages divided by their spread, not ranked", {"advantage_scale": "std"}, (*WEIGHTED, "awr")),
    "ahead": Variant(
        "advantages of a second of one driver, by V at both ends (as RECAP's)", {"advantage_steps": 50}, BY_CHUNKS
    ),
    "filtered": Variant(
        "the policy imitates, by these weights, only what filtered_bc imitates",
        {"imitated": "filtered"},
    ),
    "unaided": Variant(
        "the policy imitates, by these weights, corrections and what ended in success without one",
        {"imitated": "unaided"},
        ("aloe", "aloe_select", "td1", "mc"),
    ),
    "everything": Variant(
        "the policy imitates, by these weights, all that was driven, as in the paper",
        {"imitated": "all"},
        ("aloe_takeover",),
    ),
    "headwise": Variant("advantages head by head", {"advantage_of": "heads"}, (*AS_PUBLISHED, "mc")),
}


def split(name: str) -> tuple[str, list[str]]:
    """`method+variant+variant` to method and variants; AloeError for a variant unknown, idle or named twice."""
    method, *variants = name.split("+")
    for variant in variants:
        if variant not in VARIANTS:
            near = difflib.get_close_matches(variant, VARIANTS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise AloeError(f"variant = {variant!r}: expected one of {', '.join(VARIANTS)}.{hint}")
        if method not in VARIANTS[variant].methods:
            raise AloeError(
                f"method = {name!r}: {variant!r} changes nothing in {method}, but in "
                f"{', '.join(VARIANTS[variant].methods)}."
            )
        if variants.count(variant) > 1:
            raise AloeError(f"method = {name!r}: names {variant!r} twice.")
    return method, variants


def overrides(variants: Sequence[str], contract: RobotContract, stride: int) -> dict[str, Any]:
    """Hyperparameters that these variants change; AloeError if two of them change the same one."""
    found: dict[str, Any] = {}
    for variant in variants:
        for key, value in VARIANTS[variant].overrides.items():
            if key in found:
                raise AloeError(f"variants {' and '.join(variants)}: both change {key}; choose one.")
            found[key] = contract.chunk.horizon // stride * stride if value == LONGEST else value
    return found

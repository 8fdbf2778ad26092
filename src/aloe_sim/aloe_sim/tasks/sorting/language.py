"""What goes where, and the words for it: drawn together, so that the words alone say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aloe_sim.tasks.sorting.things import Thing

SIDES = ("left", "right", "middle")  # the bins; both hands reach the last
LARGEST = 3  # things a bin takes
PHRASES = ("put {0}", "place {0}", "sort the things: {0}", "tidy up, please: {0}")
REST = ("everything else", "the rest", "all other things")
_TRIES = 10_000


def draw_goals(things: Sequence[Thing], bins: int, rng: np.random.Generator) -> tuple[list[int], str]:
    """Return for each thing the number of its bin in SIDES, and the instruction that says so.

    Things are named one by one, or by their colour, or by their shape. No bin is empty or too full, and a long thing
    goes to the left or the right.
    """
    for _ in range(_TRIES):
        kind = str(rng.choice(["name", "colour", "shape"]))
        keys = list(dict.fromkeys(getattr(thing, kind) for thing in things))
        place = dict(zip(keys, rng.integers(bins, size=len(keys)).tolist(), strict=True))
        goals = [place[getattr(thing, kind)] for thing in things]
        if _fits(things, goals, bins):
            return goals, _words(kind, things, place, rng)
    raise AssertionError("no assignment fits these things")


def _fits(things: Sequence[Thing], goals: list[int], bins: int) -> bool:
    counts = np.bincount(goals, minlength=bins)
    long = np.bincount([g for g, thing in zip(goals, things, strict=True) if thing.long], minlength=bins)
    crowded = (counts > LARGEST) | ((long > 1) & (counts > 2))
    return bool(counts.min() > 0 and not crowded.any() and long[:2].any())


def _words(kind: str, things: Sequence[Thing], place: dict[str, int], rng: np.random.Generator) -> str:
    order = rng.permutation(max(place.values()) + 1).tolist()
    clauses = []
    for number in order[:-1]:
        keys = [key for key, where in place.items() if where == number]
        what = _listed([_called(kind, key, things) for key in keys])
        clauses.append(f"{what} into the {SIDES[number]} bin")
    clauses.append(f"{rng.choice(REST)} into the {SIDES[order[-1]]} bin")
    return str(rng.choice(PHRASES)).format(_listed(clauses))


def _called(kind: str, key: str, things: Sequence[Thing]) -> str:
    if kind == "colour":
        return f"everything {key}"
    many = kind == "shape" and sum(thing.shape == key for thing in things) > 1
    return f"the {key}s" if many else f"the {key}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

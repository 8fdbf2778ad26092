"""The tasks by name; one file each."""

from __future__ import annotations

from aloe_core.errors import AloeError
from aloe_sim.tasks.base import Task
from aloe_sim.tasks.laundry_folding import LaundryFolding
from aloe_sim.tasks.phone_assembly import PhoneAssembly
from aloe_sim.tasks.phone_packing import PhonePacking
from aloe_sim.tasks.sorting import Sorting

TASKS: dict[str, type[Task]] = {
    "sorting": Sorting,
    "phone_packing": PhonePacking,
    "phone_assembly": PhoneAssembly,
    "laundry_folding": LaundryFolding,
}

__all__ = ["TASKS", "Task", "first_level", "make_task"]


def make_task(name: str, level: str, variant: str) -> Task:
    """Return the task; AloeError names what is unknown and what there is."""
    if name not in TASKS:
        raise AloeError(f"Unknown task {name!r}: expected one of {', '.join(TASKS)}.")
    kind = TASKS[name]
    if level not in kind.levels:
        raise AloeError(f"Task {name}: unknown level {level!r}: expected one of {', '.join(kind.levels)}.")
    if variant not in kind.variants:
        raise AloeError(f"Task {name}: unknown variant {variant!r}: expected one of {', '.join(kind.variants)}.")
    return kind(level, variant)


def first_level(name: str) -> str:
    """Return the level meant where none is named; AloeError for an unknown task."""
    if name not in TASKS:
        raise AloeError(f"Unknown task {name!r}: expected one of {', '.join(TASKS)}.")
    return TASKS[name].levels[0]

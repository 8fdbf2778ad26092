"""Which tasks of the simulator are meant."""

from __future__ import annotations

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_sim.robots import robot_for
from aloe_sim.tasks import TASKS, first_level, make_task

HELP = "Tasks, comma-separated, as task or task/level; default: all, at the last level that the robot has arms for."


def levels_of(tasks: str, contract: RobotContract) -> dict[str, str]:
    """Return the level of each task named as in HELP; AloeError for an unknown one, or one that needs more arms."""
    arms = len(robot_for(contract).arms)
    levels = {}
    for word in tasks.split(",") if tasks else TASKS:
        task, _, named = word.partition("/")
        first_level(task)  # says what is unknown
        needed = {level: make_task(task, level, "train").arms for level in ([named] if named else TASKS[task].levels)}
        able = [level for level, count in needed.items() if count <= arms]
        if able:
            levels[task] = able[-1]
        elif tasks:
            raise AloeError(f"{word} needs {min(needed.values())} arms; contract {contract.name} has {arms}.")
    return levels

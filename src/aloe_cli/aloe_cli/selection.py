"""Which tasks of the simulator are meant."""

from __future__ import annotations

from aloe_core.contract import RobotContract
from aloe_core.errors import AloeError
from aloe_sim.robots import robot_for
from aloe_sim.tasks import TASKS, first_level, make_task

HELP = "Tasks, comma-separated; task/level names a level, else its last; default: all the robot has arms for."


def levels_of(tasks: str, contract: RobotContract) -> dict[str, str]:
    """Return the level of each task named as in HELP; AloeError for an unknown one, or one that needs more arms."""
    arms = len(robot_for(contract).arms)
    words = tasks.split(",") if tasks else [task for task, kind in TASKS.items() if kind.arms <= arms]
    levels = {}
    for word in words:
        task, _, level = word.partition("/")
        first_level(task)  # says what is unknown
        levels[task] = level or TASKS[task].levels[-1]
        needed = make_task(task, levels[task], "train").arms
        if needed > arms:
            raise AloeError(f"{task}/{levels[task]} needs {needed} arms; contract {contract.name} has {arms}.")
    return levels

"""`./aloe bench sim`: how fast the simulated station is, one process on one core."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from aloe_cli import paths
from aloe_cli.bench.hardware import hardware, one_core
from aloe_cli.command import VerbApp
from aloe_cli.paths import ContractOption
from aloe_cli.progress import progress
from aloe_cli.selection import HELP, levels_of
from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_sim import gl  # noqa: F401  chooses the renderer, and one thread for it, before mujoco is imported
from aloe_sim.expert import Expert
from aloe_sim.station import Station, frame_period

VIEWS = 3  # of SIDE x SIDE pixels, what a policy for real robots looks at
SIDE = 224
LARGE = (640, 480)
FRAMES = 12  # timed at once
ALONE = 0.9  # share of the core from which figures are trusted

app = VerbApp(help="Measure the speed of the simulated station.")


@app.command()
def sim(
    tasks: Annotated[str, typer.Option(help=HELP)] = "",
    seconds: Annotated[float, typer.Option(help="Simulated time of each measurement.")] = 4.0,
    repeats: Annotated[int, typer.Option(help="Measurements, of which the median counts.")] = 5,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Drive each task as the expert does and print steps a second, real-time factors and render times."""
    robot = load_contract(paths.contract(contract))
    if seconds < robot.dt:
        raise AloeError(f"seconds = {seconds:g}: expected at least one tick, {robot.dt:g}.")
    if repeats < 1:
        raise AloeError(f"repeats = {repeats}: expected at least 1.")
    machine = hardware()
    levels = levels_of(tasks, robot)
    rows = {}
    with one_core(), progress("benchmark", len(levels)) as bar:
        for task, level in levels.items():
            rows[task] = measure(robot, task, level, seconds, repeats) | {"hardware": machine}
            bar.advance(note=task)
    _print(rows, machine)
    return rows


def measure(contract: RobotContract, task: str, level: str, seconds: float, repeats: int) -> dict[str, Any]:
    """Return the medians of `repeats` measurements of `seconds` simulated seconds each.

    realtime_factor is physics with three 224x224 views at the rates of the contract's cameras. cpu_share is how much of
    the core this process got: below 1 on a busy machine (or one that renders on a GPU), and the figures are too low.
    """
    station = Station(contract, task, level)
    wall, busy = time.perf_counter(), time.process_time()
    try:
        commands = _commands(station, seconds)
        steps = sum(command is not None for command in commands)
        simulated = steps * contract.dt
        cameras = list(contract.camera_names)
        views = [*cameras, *["front"] * VIEWS][:VIEWS]

        def look_large() -> None:
            for camera in views:
                if station.tick % frame_period(contract, camera if camera in cameras else cameras[0]) == 0:
                    station.view(camera, SIDE, SIDE)

        def look() -> None:
            for camera in cameras:
                if station.frame_due(camera):
                    station.render(camera)

        def repeat(what: Callable[[], float]) -> float:
            return median(what() for _ in range(repeats))

        physics = repeat(lambda: _run(station, commands, lambda: None))
        row = {
            "level": level,
            "steps_per_s": round(steps / physics, 1),
            "realtime_factor": round(simulated / repeat(lambda: _run(station, commands, look_large)), 2),
            "render_ms": round(1e3 * repeat(lambda: _render(station, views, (SIDE, SIDE))), 2),
            "render_640x480_ms": round(1e3 * repeat(lambda: _render(station, views, LARGE)), 2),
            "realtime_factor_physics": round(simulated / physics, 2),
            "realtime_factor_contract_cameras": round(simulated / repeat(lambda: _run(station, commands, look)), 2),
        }
        share = (time.process_time() - busy) / (time.perf_counter() - wall)
        return row | {"cpu_share": round(min(share, 1.0), 2)}
    finally:
        station.close()


def _commands(station: Station, seconds: float) -> list[np.ndarray | None]:
    """Return what the expert commands, one a tick, over as many episodes as it takes; None resets, beside the ticks."""
    commands: list[np.ndarray | None] = []
    left = max(1, round(seconds / station.contract.dt))
    while left:
        commands.append(None)
        station.reset(0)
        expert = Expert(station)
        while left and not (station.success or station.tick >= station.steps_limit):
            commands.append(expert.act())
            station.step(commands[-1])
            left -= 1
    return commands


def _run(station: Station, commands: list[np.ndarray | None], look: Callable[[], None]) -> float:
    """Return the wall seconds that physics and `look` take; resets do not count."""
    spent = 0.0
    for command in commands:
        if command is None:
            station.reset(0)
            continue
        start = time.perf_counter()
        look()
        station.step(command)
        spent += time.perf_counter() - start
    return spent


def _render(station: Station, views: list[str], size: tuple[int, int]) -> float:
    """Return the wall seconds a frame takes."""
    station.view(views[0], *size)  # the first one sets the renderer up
    start = time.perf_counter()
    for i in range(FRAMES):
        station.view(views[i % len(views)], *size)
    return (time.perf_counter() - start) / FRAMES


def _print(rows: dict[str, dict[str, Any]], machine: str) -> None:
    table = Table(
        "task",
        "steps/s",
        f"real time, {VIEWS}x{SIDE}x{SIDE}",
        "contract's cameras",
        "physics alone",
        f"ms, {SIDE}x{SIDE}",
        "640x480",
        box=None,
        pad_edge=False,
    )
    for task, row in rows.items():
        keys = (
            *("steps_per_s", "realtime_factor", "realtime_factor_contract_cameras", "realtime_factor_physics"),
            *("render_ms", "render_640x480_ms"),
        )
        table.add_row(f"{task}/{row['level']}", *(str(row[key]) for key in keys))
    console = Console()
    console.print(table)
    console.print(f"One core of {machine}.", highlight=False)
    share = min(row["cpu_share"] for row in rows.values())
    if share < ALONE:
        console.print(f"Other programs were busy: the benchmark had {share:.0%} of its core.", highlight=False)

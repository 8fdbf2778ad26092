"""`./aloe launch`: run a launch file, through ros2 launch where that is installed."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aloe_cli.command import VerbApp
from aloe_cli.errors import AloeFailure
from aloe_cli.launch import packages
from aloe_cli.launch.command import command
from aloe_cli.launch.output import log_folder
from aloe_cli.launch.plan import Plan, arguments_of, make_plan
from aloe_cli.launch.runner import Runner
from aloe_core.errors import AloeError

app = VerbApp(help="Start a launch file; the same syntax as ros2 launch.")


@app.command()
def launch(
    file: Annotated[str, typer.Argument(help="Launch file, or a package that is followed by the name of one.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="name:=value …", metavar="[NAME:=VALUE]…")] = None,
    show_args: Annotated[bool, typer.Option("--show-args", "-s", help="List the arguments of the file.")] = False,
    dry_run: Annotated[bool, typer.Option("--print", "-p", help="Print what would be started.")] = False,
    built_in: Annotated[bool, typer.Option("--built-in", help="Do not hand over to ros2 launch.")] = False,
) -> dict[str, Any] | None:
    """Start a launch file, as ros2 launch does; Ctrl-C stops everything it started."""
    path, words = _target(file, arguments or [])
    given = _parse(words)
    if not (built_in or show_args or dry_run) and has_ros2_launch():
        sys.stdout.flush()
        os.execvp("ros2", ["ros2", "launch", str(path), *words])
    if path.suffix != ".xml":
        raise AloeError(f"{path}: only XML launch files run without ros2 launch; install it or write *.launch.xml.")
    if show_args:
        return _show_arguments(path)
    plan = make_plan(path, given)
    return _print(plan) if dry_run else _run(path, plan)


def has_ros2_launch() -> bool:
    """Tell whether `ros2 launch` is installed."""
    if shutil.which("ros2") is None:
        return False
    try:
        packages.prefix("ros2launch")
    except AloeError:  # not in the index of this shell, which is not all: ros2 itself knows
        return subprocess.run(["ros2", "launch", "--help"], capture_output=True, check=False).returncode == 0
    return True


def _target(file: str, words: list[str]) -> tuple[Path, list[str]]:
    """Return the launch file and the remaining words; `file` may be a package and the first word a file of it."""
    if Path(file).is_file():
        return Path(file), words
    if words and ":=" not in words[0]:
        share = packages.share(file)
        found = sorted(p for p in share.rglob(words[0]) if p.is_file())
        if len(found) != 1:
            raise AloeError(f"Package {file}: {len(found)} files are called {words[0]!r} in {share}, expected one.")
        return found[0], words[1:]
    raise AloeError(f"{file}: no such launch file.")


def _parse(words: list[str]) -> dict[str, str]:
    given = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not (name and separator and value):
            raise AloeError(f"{word!r}: expected NAME:=VALUE.")
        given[name] = value
    return given


def _show_arguments(path: Path) -> dict[str, Any]:
    rows = []
    for argument in arguments_of(path):
        default = "required" if argument.default is None else f"default {argument.default!r}"
        choices = f"; one of {', '.join(argument.choices)}" if argument.choices else ""
        print(f"{argument.name}: {argument.description or 'no description'} ({default}{choices})")
        rows.append(
            {
                "name": argument.name,
                "default": argument.default,
                "description": argument.description,
                "choices": list(argument.choices),
            }
        )
    return {"launch_file": str(path), "arguments": rows}


def _print(plan: Plan) -> dict[str, Any]:
    folder = log_folder()
    commands = {spec.label: command(spec, folder / "parameters") for spec in plan.nodes}
    for words in commands.values():
        print(shlex.join(words))
    return {"nodes": [{"name": label, "command": words} for label, words in commands.items()]}


def _run(path: Path, plan: Plan) -> dict[str, Any]:
    if not plan.nodes:
        raise AloeError(f"{path}: there is no node to start.")
    folder = log_folder()
    print(f"[INFO] [launch]: logs are in {folder}", flush=True)

    async def run() -> list[Any]:
        return await Runner(plan.nodes, folder).run()

    children = asyncio.run(run())
    died = [child for child in children if child.died]
    if died:
        named = ", ".join(
            f"{child.spec.label} (exit code {child.exit_code}{_quoted(child.last_words)})" for child in died
        )
        raise AloeFailure(f"{path}: died by itself: {named}; logs are in {folder}.")
    return {
        "launch_file": str(path),
        "log_folder": str(folder),
        "nodes": [
            {"name": child.spec.label, "exit_code": child.exit_code, "restarts": child.restarts} for child in children
        ],
    }


def _quoted(last_words: str) -> str:
    return f", {last_words!r}" if last_words else ""

"""Entry point of `./aloe`; knows the verbs by name and imports only the one that runs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from aloe_cli.command import missing_module, report

VERBS = {
    "doctor": "What is installed, what is missing, what to do about it.",
    "launch": "Start a launch file; the same syntax as ros2 launch.",
    "demo": "The whole loop on the simulator: demonstrate, clone, supervise, improve, measure.",
    "bag": "Look into, check, recover and list recorded episodes.",
    "train": "Train a policy and its critic from a folder of bags.",
    "eval": "Measure the success rate of a policy on the simulator.",
    "checkpoint": "List, show, promote and roll back checkpoints.",
}
HIDDEN = {"docs": "Write the parameter tables of the documentation."}  # for developers of the suite


class LazyGroup(TyperGroup):
    """Lists every verb from VERBS and loads a verb's module when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in (*VERBS, *HIDDEN):
            self.commands[args[0]] = load(args[0])
        return super().resolve_command(ctx, args)


def load(verb: str) -> Any:
    """Import the module of `verb` and return its command; exits with one sentence if a dependency is missing."""
    try:
        module = importlib.import_module(f"aloe_cli.verbs.{verb}")
    except ModuleNotFoundError as error:
        raise SystemExit(
            report(missing_module(error), as_json="--json" in sys.argv, debug="--debug" in sys.argv)
        ) from error
    command = typer.main.get_command(module.app)
    command.name = verb
    return command


def _application() -> typer.Typer:
    app = typer.Typer(
        name="aloe",
        cls=LazyGroup,
        help="ALOE for ROS 2: teach a robot policy by demonstration, supervision and off-policy improvement.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
    )
    for verb, summary in VERBS.items():
        app.command(verb, help=summary)(lambda: None)
    for verb, summary in HIDDEN.items():
        app.command(verb, help=summary, hidden=True)(lambda: None)
    return app


def main() -> None:
    """Run one verb and exit with its code."""
    typer.main.get_command(_application())(prog_name="aloe")


if __name__ == "__main__":
    main()

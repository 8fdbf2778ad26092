"""Groups of commands known by name, of which only the one that runs is imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from aloe_cli.command import missing_module, report


def lazy_app(package: str, summaries: Mapping[str, str], hidden: Mapping[str, str], **settings: Any) -> typer.Typer:
    """Return an application whose commands are the modules of `package` of that name (- as _), each with a typer `app`.

    The summaries are what its help lists; `hidden` commands run but are not listed.
    """
    known = {**summaries, **hidden}

    class LazyGroup(TyperGroup):
        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            if args and args[0] in known:
                self.commands[args[0]] = load(package, args[0])
            return super().resolve_command(ctx, args)

    app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode="rich", **settings)
    for name, summary in known.items():
        app.command(name, help=summary, hidden=name in hidden)(lambda: None)
    return app


def load(package: str, name: str) -> Any:
    """Import a command's module and return the command; exits with one sentence if a dependency is missing."""
    try:
        module = importlib.import_module(f"{package}.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise SystemExit(
            report(missing_module(error), as_json="--json" in sys.argv, debug="--debug" in sys.argv)
        ) from error
    command = typer.main.get_command(module.app)
    command.name = name
    return command

"""What every verb has in common: --json, --debug and errors of one sentence."""

from __future__ import annotations

import functools
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from aloe_cli.errors import AloeFailure, exit_code
from aloe_core.errors import AloeError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
_COMMON = {"json_": JsonOption, "debug": DebugOption}


class VerbApp(typer.Typer):
    """A typer application whose commands take --json and --debug and report AloeError as one sentence.

    A command returns what --json prints; an `exit_code` in it that is not 0 becomes the exit code.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(add_completion=False, no_args_is_help=False, rich_markup_mode="rich", **kwargs)

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        register = super().command(*args, **kwargs)

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_common_options(function))
            return function

        return decorate


def _with_common_options(function: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(function)
    def run(*args: Any, json_: bool, debug: bool, **kwargs: Any) -> None:
        try:
            result = function(*args, **kwargs)
        except AloeError as error:
            raise typer.Exit(report(error, as_json=json_, debug=debug)) from error
        except ModuleNotFoundError as error:
            raise typer.Exit(report(missing_module(error), as_json=json_, debug=debug)) from error
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:  # the last resort: a defect is told in one sentence like the rest
            raise typer.Exit(report(defect(error), as_json=json_, debug=debug)) from error
        if json_ and result is not None:
            print_json(result)
        if result and result.get("exit_code"):
            raise typer.Exit(result["exit_code"])

    own = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    parameters = [p.replace(annotation=hints.get(name, p.annotation)) for name, p in own.parameters.items()]
    for name, annotation in _COMMON.items():
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation))
    run.__signature__ = own.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    del run.__wrapped__
    return run


def report(error: AloeError, *, as_json: bool, debug: bool) -> int:
    """Print `error` on stderr (and as JSON on stdout) and return its exit code."""
    code = exit_code(error)
    if debug:
        traceback.print_exception(error)
    else:
        print(error, file=sys.stderr, flush=True)
    if as_json:
        print_json({"error": str(error), "exit_code": code})
    return code


def missing_module(error: ModuleNotFoundError) -> AloeFailure:
    """Return the failure to report when a verb needs a module that is not there."""
    failure = AloeFailure(f"Python module {error.name!r} is not installed; run `make setup`.")
    failure.__cause__ = error
    return failure


def defect(error: Exception) -> AloeFailure:
    """Return the failure to report for an exception nobody foresaw."""
    text = " ".join(str(error).split())
    failure = AloeFailure(
        f"Unexpected {type(error).__name__}: {text}; run it again with --debug and report what it says."
    )
    failure.__cause__ = error
    return failure


def print_json(result: dict[str, Any]) -> None:
    """Print `result` as one line; NumPy scalars and paths become plain values."""
    print(json.dumps(result, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)

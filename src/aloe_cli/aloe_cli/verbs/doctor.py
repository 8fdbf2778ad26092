"""`./aloe doctor`: what is installed, what is missing, what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from aloe_cli.checks import CHECKS, Finding, Status
from aloe_cli.command import VerbApp

app = VerbApp(help="What is installed, what is missing, what to do about it.")

_MARK = {Status.OK: "[green]ok     [/]", Status.OPTIONAL: "[yellow]absent [/]", Status.MISSING: "[red]MISSING[/]"}


@app.command()
def doctor() -> dict[str, Any]:
    """Check this machine; exit code 1 if something is missing that the simulator loop needs."""
    console = Console()
    findings = {name: _show(console, name, check) for name, check in CHECKS.items()}
    missing = [name for name, finding in findings.items() if finding.status is Status.MISSING]
    if missing:
        console.print(f"Missing: {', '.join(missing)}.")
    else:
        console.print("Everything the simulator loop needs is there.")
    return {
        "checks": {
            name: {"status": f.status.value, "found": f.found, "advice": f.advice} for name, f in findings.items()
        },
        "missing": missing,
        "exit_code": 1 if missing else 0,
    }


def _show(console: Console, name: str, check: Callable[[], Finding]) -> Finding:
    finding = check()
    console.print(f"{_MARK[finding.status]} {name:<12} {finding.found}", highlight=False, soft_wrap=True)
    if finding.advice:
        console.print(f"{'':20} {finding.advice}", highlight=False, soft_wrap=True, markup=False)
    return finding

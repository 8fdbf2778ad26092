"""`./aloe bench infer-gpu`: chunks of LeRobot's VLAs on a GPU, by our code and by LeRobot's own, in its environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from aloe_cli import lerobot
from aloe_cli.command import VerbApp
from aloe_core.checkpoint import git_revision
from aloe_core.errors import AloeError

MODELS = ("smolvla", "pi0", "pi05")
COLUMNS = (
    "model",
    "chunk_ms",
    "lerobot_eager_ms",
    "lerobot_compiled_ms",
    "floor_ms",
    "eight_chunks_ms",
    "warmup_s",
    "max_rel_err",
)

app = VerbApp(help="Measure chunks of LeRobot's VLAs on a GPU, beside LeRobot's own code.")


@app.command()
def infer_gpu(
    models: Annotated[str, typer.Option(help="Comma-separated, of " + ", ".join(MODELS) + ".")] = "smolvla,pi05",
    device: Annotated[str, typer.Option(help="Torch device; cpu only with --small.")] = "cuda",
    small: Annotated[bool, typer.Option(help="Models of a quarter of a million weights: shows that it runs.")] = False,
    repeats: Annotated[int, typer.Option(help="Timed calls, of which the median counts.", min=3)] = 50,
    compiled_limit: Annotated[
        int, typer.Option(help="Seconds that LeRobot's compilation may take; 0: not measured.", min=0)
    ] = 240,
    measured: Annotated[
        Path | None, typer.Option(help="Write the table of this result, measured elsewhere.", metavar="JSON")
    ] = None,
    out: Annotated[Path, typer.Option(help="Result without ending: .json and .md.", metavar="FILE")] = Path(
        "docs/results/infer_gpu"
    ),
) -> dict[str, Any]:
    """Time one chunk and eight with random weights: 3 cameras, 48 words, 50 rows, 10 flow steps.

    chunk_ms and eight_chunks_ms are ours, from the observation on the device to chunks on it; lerobot_eager_ms and
    lerobot_compiled_ms are LeRobot's for one chunk, with the same weights; floor_ms is arithmetic and reading of
    weights at the rates the GPU shows (`floor` of the JSON); max_rel_err is between ours and LeRobot's, the largest
    of 16 chunks. Figures of a CPU are of no GPU, and columns that need one stay empty.
    """
    if measured is not None:
        return _written(_read(measured), out)
    named = models.split(",")
    unknown = [name for name in named if name not in MODELS]
    if unknown:
        raise AloeError(f"No model {unknown[0]!r}: expected of {', '.join(MODELS)}.")
    if not device.startswith("cuda") and not small:
        raise AloeError(f"device = {device}: full size is measured on a GPU; add --small to see that it runs.")
    target = out.with_suffix(".json")
    given = {"models": models, "device": device, "repeats": repeats, "compiled-limit": compiled_limit}
    command = [str(lerobot.interpreter()), "-m", lerobot.SPEED, "--out", str(target), *(["--small"] if small else [])]
    command += [part for key, value in given.items() for part in (f"--{key}", str(value))]
    done = subprocess.run([*command, "--revision", git_revision() or "unknown"], env=lerobot.environment(), check=False)
    if done.returncode:
        raise AloeError(f"infer-gpu: LeRobot's environment ended with {done.returncode}; its last lines say why.")
    return _written(_read(target), out)


def _read(file: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(file.read_text())
        markdown(result)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AloeError(f"{file}: expected a result of bench infer-gpu ({type(error).__name__}: {error}).") from error
    return result


def _written(result: dict[str, Any], out: Path) -> dict[str, Any]:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(result))
    print(f"{out.with_suffix('.json')}, {out.with_suffix('.md')}: {len(result['rows'])} rows")
    return result


def markdown(result: dict[str, Any]) -> str:
    """Return the rows as a table."""
    what = "" if result["gpu"] else "**Not of a GPU, but of small models on a processor: only that it runs.** "
    lines = [
        "# Chunks of LeRobot's VLAs",
        "",
        f"{what}Random weights, {result['cameras']} cameras, {result['words']} words, "
        f"{result['rows_of_a_chunk']} rows, {result['steps']} flow steps; "
        f"revision {result['revision'][:12]}. {result['floor']}.",
        "",
        "| " + " | ".join((*COLUMNS, "hardware")) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for row in result["rows"]:
        cells = ["" if row.get(key) is None else str(row[key]) for key in (*COLUMNS, "hardware")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"

"""Entry point of `./aloe bench infer-gpu`, in LeRobot's environment; a GPU machine needs nothing else of the suite.

python -m aloe_policy.remote.lerobot.speed --device cuda --out FILE
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from aloe_policy.remote.lerobot.speed import floor, measure, models


def main() -> int:
    parser = argparse.ArgumentParser(prog="infer-gpu", description=__doc__)
    parser.add_argument("--models", default="smolvla,pi05", help="of " + ", ".join(models.MODELS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a quarter of a million weights: shows that it runs")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--compiled-limit", type=int, default=240, help="s for LeRobot's compilation; 0: none")
    parser.add_argument("--layers", choices=("compiled", "plain"), default="compiled", help="of our own code")
    parser.add_argument("--revision", default="unknown")
    parser.add_argument("--out", type=Path, required=True, help="JSON, written anew with every figure")
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"device = {given.device}: torch finds no GPU here.", file=sys.stderr)
        return 2
    return 0 if all("error" not in row for row in _measured(given)) else 1


def _measured(given: argparse.Namespace) -> list[dict[str, Any]]:
    on_gpu = given.device.startswith("cuda")
    facts: dict[str, Any] = {"revision": given.revision, "gpu": on_gpu, "small": given.small}
    facts |= {"cameras": models.CAMERAS, "words": models.WORDS, "rows_of_a_chunk": models.ROWS, "steps": models.STEPS}
    facts |= {"floor": floor.FORMULA}
    rows: list[dict[str, Any]] = []
    for kind in given.models.split(","):
        print(f"infer-gpu: {kind}", file=sys.stderr, flush=True)
        options = {"small": given.small, "repeats": given.repeats, "compiled": given.layers == "compiled"}
        try:
            rows.append(measure.row(kind, given.device, **options))
        except RuntimeError as error:  # of the GPU, or for lack of its memory: what else was measured is kept
            rows.append({"model": kind, "error": f"{type(error).__name__}: {error}"})
        _write(given.out, facts, rows)
        _forget()
    for row in rows if on_gpu and given.compiled_limit and not given.small else []:
        if "error" in row:
            continue
        print(f"infer-gpu: {row['model']}, compiled by LeRobot", file=sys.stderr, flush=True)
        kind = row["model"]
        row |= measure.compiled_by_lerobot(kind, given.device, repeats=given.repeats, limit=given.compiled_limit)
        _write(given.out, facts, rows)
        _forget()
    return rows


def _write(out: Path, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")
    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)


def _forget() -> None:
    """Free the model before the next one is built, and what was compiled for its shapes."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())

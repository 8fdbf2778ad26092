"""What the loader says of an ACT policy that is not whole: load_broken.py POLICY DIR; in LeRobot's environment.

Prints a JSON object: what was done to a copy of POLICY in DIR -> what was said.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from aloe_core.errors import AloeError
from aloe_policy.remote.lerobot.loading import WEIGHTS, check_weights, load

BIAS = "model.action_head.bias"


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Return what changes the weights in a folder."""

    def apply(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return apply


CASES: dict[str, Callable[[Path], object]] = {
    "a weight is missing": changed(lambda w: w.pop(BIAS)),
    "a weight is not finite": changed(lambda w: w[BIAS].fill_(float("nan"))),
    "a weight has another shape": changed(lambda w: w.update({BIAS: torch.zeros(9)})),
    "the weights are torn": lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:1000]),
    "no weights": lambda f: (f / WEIGHTS).unlink(),
    "no processor": lambda f: (f / "policy_preprocessor.json").unlink(),
}


def said(do: Callable[[], object]) -> str:
    try:
        do()
    except AloeError as error:
        return str(error)
    return "nothing"


def main(policy: Path, work: Path) -> None:
    answers = {}
    for number, (case, do) in enumerate(CASES.items()):
        folder = work / str(number)
        shutil.copytree(policy, folder)
        do(folder)
        answers[case] = said(partial(load, folder, "cpu"))
    model = load(policy, "cpu").model
    with torch.no_grad():
        model.model.action_head.bias += 1
    answers["a weight is another"] = said(partial(check_weights, model, policy / WEIGHTS))
    print(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

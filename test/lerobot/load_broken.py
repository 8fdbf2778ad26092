"""What the loader says of a policy that is not whole: load_broken.py POLICY DIR; in LeRobot's environment.

POLICY is named after its kind. Prints a JSON object: what was done to a copy of it in DIR -> what was said.
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

BIAS = "model.action_head.bias" if sys.argv[1].endswith("act") else "model.action_out_proj.bias"
PALIGEMMA = "model.paligemma_with_expert.paligemma."
WORDS, OUTPUT = f"{PALIGEMMA}model.language_model.embed_tokens.weight", f"{PALIGEMMA}lm_head.weight"


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Return what changes the weights in a folder."""

    def apply(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return apply


def replaced(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


CASES: dict[str, Callable[[Path], object]] = {
    "a weight is missing": changed(lambda w: w.pop(BIAS)),
    "a weight is not finite": changed(lambda w: w[BIAS].fill_(float("nan"))),
    "a weight has another shape": changed(lambda w: w.update({BIAS: torch.zeros(9)})),
    "the weights are torn": lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:1000]),
    "no weights": lambda f: (f / WEIGHTS).unlink(),
    "no processor": lambda f: (f / "policy_preprocessor.json").unlink(),
}
PI_CASES: dict[str, Callable[[Path], object]] = {
    "words are saved once": changed(lambda w: w.update({OUTPUT: w.pop(WORDS)})),
    "words are not saved": changed(lambda w: (w.pop(WORDS), w.pop(OUTPUT))),
    "no tokenizer": lambda f: replaced(f / "policy_preprocessor.json", "google/paligemma-3b-pt-224", "google/nothing"),
}


def said(do: Callable[[], object]) -> str:
    try:
        do()
    except AloeError as error:
        return str(error)
    return "nothing"


def main(policy: Path, work: Path) -> None:
    answers = {}
    cases = CASES | (PI_CASES if policy.name.startswith("pi") else {})
    for number, (case, do) in enumerate(cases.items()):
        folder = work / str(number)
        shutil.copytree(policy, folder)
        do(folder)
        answers[case] = said(partial(load, folder, "cpu"))
    model = load(policy, "cpu").model
    with torch.no_grad():
        model.state_dict()[BIAS] += 1
    answers["a weight is another"] = said(partial(check_weights, model, policy / WEIGHTS))
    print(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

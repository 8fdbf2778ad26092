"""`./aloe train`: learn from folders of bags and publish a checkpoint, without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from aloe_cli import paths
from aloe_cli.command import VerbApp
from aloe_cli.paths import ContractOption
from aloe_cli.progress import Stages
from aloe_core.errors import AloeError
from aloe_critic.hyper import load_hyper
from aloe_critic.learners import METHODS
from aloe_critic.trainer import TrainRequest, train

app = VerbApp(help="Train a policy and its critic from a folder of bags.")


@app.command()
def train_(
    bags: Annotated[
        list[Path], typer.Option("--bags", help="Bag, or folder of bags; may be given again.", metavar="DIR")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of checkpoints to publish into.", metavar="DIR")],
    method: Annotated[str, typer.Option(help=", ".join(METHODS) + ".")] = "aloe_select",
    init: Annotated[str, typer.Option(help="Version or checkpoint to start from; default: LATEST of --out.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Hyperparameter.", metavar="KEY=VALUE")] = None,
    hyper: Annotated[
        Path | None, typer.Option(help="YAML file of hyperparameters; --set goes first.", metavar="FILE")
    ] = None,
    contract: ContractOption = None,
) -> dict[str, Any]:
    """Train on the bags and publish the result as a checkpoint that LATEST then names."""
    request = TrainRequest(
        bag_dirs=[str(folder) for folder in bags],
        checkpoint_dir=str(out),
        contract=str(paths.contract(contract)),
        method=method,
        init=init,
        overrides=(load_hyper(hyper) if hyper else {}) | _overrides(set_ or []),
    )
    with Stages() as stages:
        result = train(request, lambda phase, step, steps, loss: stages.show(phase, step, steps, f"loss {loss:.4g}"))
    for bag, reason in result.set_aside.items():
        Console(stderr=True).print(f"set aside: {bag}: {reason}", highlight=False)
    print(f"{result.uri}: {method} on {result.episodes} episodes, {result.transitions} windows, {result.wall_s:.0f} s.")
    return vars(result)


def _overrides(words: list[str]) -> dict[str, Any]:
    overrides = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not (key and separator):
            raise AloeError(f"--set {word!r}: expected KEY=VALUE.")
        overrides[key] = yaml.safe_load(value)
    return overrides

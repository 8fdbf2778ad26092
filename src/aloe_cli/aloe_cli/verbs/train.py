"""`./aloe train`: learn from folders of bags and publish a checkpoint, without ROS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from aloe_cli import paths
from aloe_cli.command import VerbApp
from aloe_cli.overrides import parse
from aloe_cli.paths import ContractOption
from aloe_cli.progress import Stages
from aloe_critic.hyper import load_hyper
from aloe_critic.learners import METHODS
from aloe_critic.trainer import TrainRequest, train

app = VerbApp(help="Train a policy and its critic from a folder of bags.")


@app.command()
def train_(
    bags: Annotated[
        list[str],
        typer.Option("--bags", help="Bag, folder of bags, or URL; may be given again.", metavar="DIR"),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of checkpoints to publish into.", metavar="DIR")],
    method: Annotated[str, typer.Option(help=", ".join(METHODS) + ".")] = "aloe_takeover",
    init: Annotated[str, typer.Option(help="Version or checkpoint to start from; default: LATEST of --out.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Hyperparameter.", metavar="KEY=VALUE")] = None,
    hyper: Annotated[
        Path | None, typer.Option(help="YAML file of hyperparameters; --set goes first.", metavar="FILE")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Store of what was read, so that only new bags are.", metavar="DIR")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Thresholds that an update must reach to be published.", metavar="FILE")
    ] = None,
    held_out: Annotated[
        list[str] | None, typer.Option(help="Bags that the gate judges by; may be given again.", metavar="DIR")
    ] = None,
    publish: Annotated[
        str, typer.Option(help="Push the checkpoint there too, e.g. s3://bucket/checkpoints.", metavar="URL")
    ] = "",
    tracker: Annotated[
        str, typer.Option(help="Show curves in wandb or trackio too, if installed; default: $ALOE_TRACKER, or none.")
    ] = "",
    server: Annotated[
        str,
        typer.Option("--policy-server", help="Improve the policy of this server instead, one started with --train."),
    ] = "",
    mapping: Annotated[
        Path | None, typer.Option(help="Names and layout of the server (YAML), as for driving.", metavar="FILE")
    ] = None,
    server_timeout: Annotated[
        float, typer.Option(help="Time for one answer of the server, s.", min=1, max=86400)
    ] = 600,
    fresh: Annotated[bool, typer.Option(help="Begin anew where an unfinished run could be gone on with.")] = False,
    contract: ContractOption = None,
) -> dict[str, Any] | None:
    """Train on the bags and publish the result as a checkpoint that LATEST then names.

    Ctrl-C or SIGTERM finishes the step and saves; the same command then goes on. Runs under torchrun as it is.
    """
    request = TrainRequest(
        bag_dirs=bags,
        checkpoint_dir=str(out),
        contract=str(paths.contract(contract)),
        method=method,
        init=init,
        replay_dir=str(replay) if replay else "",
        fresh=fresh,
        publish=publish,
        tracker=tracker,
        server=server,
        server_mapping=str(mapping) if mapping else "",
        server_timeout=server_timeout,
        gate=str(gate) if gate else "",
        held_out=held_out or [],
        overrides=(load_hyper(hyper) if hyper else {}) | parse(set_),
    )
    if int(os.environ.get("RANK", "0")) > 0:  # of torchrun's processes the first one speaks
        train(request)
        return None
    with Stages() as stages:
        result = train(request, lambda phase, step, steps, loss: stages.show(phase, step, steps, f"loss {loss:.4g}"))
    for bag, reason in result.set_aside.items():
        Console(stderr=True).print(f"set aside: {bag}: {reason}", highlight=False)
    for note in result.notes:
        Console(stderr=True).print(note, highlight=False, soft_wrap=True)
    if result.set_aside:
        print(f"{len(result.set_aside)} bags set aside, {result.failed_takes} of them for their quality check.")
    print(f"{result.uri}: {method} on {result.episodes} episodes, {result.transitions} windows, {result.wall_s:.0f} s.")
    return vars(result)

"""`./aloe policy-server`: a policy for robots that have no room for it, over the openpi websocket protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aloe_cli import lerobot, paths
from aloe_cli.command import VerbApp
from aloe_cli.paths import ContractOption
from aloe_core.checkpoint import MANIFEST, latest
from aloe_core.contract import load_contract
from aloe_core.errors import AloeError
from aloe_policy.chunking import MODES, Chunking

TRAINS = ("expert", "lora")
CODES = ("lerobot", "graph")

app = VerbApp(help="Serve a policy to robots that have no room for it.")


@app.command()
def policy_server(
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint, or a folder whose LATEST is meant.", metavar="DIR")
    ] = None,
    lerobot_: Annotated[
        Path | None,
        typer.Option("--lerobot", help="A policy as LeRobot saved it, in place of a checkpoint.", metavar="DIR"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.", min=0, max=65535)] = 8000,
    candidates: Annotated[int, typer.Option(help="Chunks sampled where a client asks for no number.", min=1)] = 8,
    chunking: Annotated[str, typer.Option(help="How chunks may be led on: " + ", ".join(MODES) + ".")] = "receding",
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of one inference.", min=1, max=256)] = 1,
    train: Annotated[
        str, typer.Option(help="With --lerobot: let a trainer train it, its action expert or lora adapters on that.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="With --train: folder of what is saved, and of an unfinished run.", metavar="DIR"),
    ] = None,
    code: Annotated[
        str, typer.Option(help="With --lerobot: lerobot, its own code; graph, on a GPU chunks as one CUDA graph.")
    ] = "lerobot",
    rank: Annotated[int, typer.Option(help="With --train lora: rank of the adapters.", min=1, max=1024)] = 16,
    contract: ContractOption = None,
) -> dict[str, Any] | None:
    """Serve a checkpoint, or a policy of LeRobot, until Ctrl-C or SIGTERM; with --train let it be trained too.

    Anybody who reaches the port can use it: keep it on this machine, on a network of the robot's own, or behind ssh -L.
    """
    if (checkpoint is None) == (lerobot_ is None):
        raise AloeError("policy-server: expected either --checkpoint DIR or --lerobot DIR.")
    if code not in CODES:
        raise AloeError(f"code = {code!r}: expected one of {', '.join(CODES)}.")
    if code == "graph" and (lerobot_ is None or train or not device.startswith("cuda")):
        raise AloeError("code = 'graph': expected --lerobot and --device cuda, and no --train.")
    training = _training(train, out, rank, lerobot_)
    if lerobot_ is not None:
        given = training or {"code": code}
        lerobot.serve(lerobot_, host=host, port=port, device=device, threads=threads, **given)
    assert checkpoint is not None
    robot = load_contract(paths.contract(contract))
    directory = _checkpoint(checkpoint)

    import torch

    from aloe_policy.remote.native_service import NativeService
    from aloe_policy.remote.process import serve_until_signal
    from aloe_policy.runtime import load_runtime

    torch.set_num_threads(threads)
    runtime = load_runtime(directory, robot, candidates, device, chunking=Chunking(chunking))
    serve_until_signal(NativeService(runtime, robot), host, port)
    return {"checkpoint": str(directory), "version": runtime.version}


def _training(train: str, out: Path | None, rank: int, policy: Path | None) -> dict[str, object]:
    """Return the options of a server that trains; AloeError if they make no sense."""
    if not train:
        if out is not None:
            raise AloeError(f"policy-server: --out {out} means nothing without --train expert or --train lora.")
        return {}
    if policy is None:
        raise AloeError("policy-server: --train needs --lerobot; ./aloe train improves a checkpoint of this suite.")
    if train not in TRAINS:
        raise AloeError(f"train = {train!r}: expected one of {', '.join(TRAINS)}.")
    if out is None:
        raise AloeError("policy-server: --train needs --out, a folder for what is saved.")
    return {"train": train, "out": out, "rank": rank}


def _checkpoint(folder: Path) -> Path:
    if not folder.is_dir():
        raise AloeError(f"{folder}: no such checkpoint.")
    directory = folder if (folder / MANIFEST).exists() else latest(folder)
    if directory is None:
        raise AloeError(f"{folder}: no checkpoint, nor a LATEST that names one.")
    return directory

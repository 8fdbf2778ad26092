"""A trainer that follows the protocol without learning; what it does is in the overrides of its request."""

import argparse
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from aloe_core.checkpoint import write_checkpoint
from aloe_core.contract import load_contract


def say(**event):
    print(json.dumps(event), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--request")
    request = json.loads(Path(parser.parse_args().request).read_text())
    deed = request["overrides"].get("deed", "publish")
    print("reading", request["bag_dirs"], flush=True)
    say(phase="critic", step=1, steps_total=2, loss=0.5)
    Path(request["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)
    (Path(request["checkpoint_dir"]) / "child.pid").write_text(str(os.getpid()))
    if deed == "error":
        say(error="bags: no usable bag.")
        sys.exit(2)
    if deed == "crash":
        raise ZeroDivisionError("no gradient")
    if deed == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed in ("hang", "stubborn"):
        if deed == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say(phase="hanging", step=2, steps_total=2, loss=0.25)
        while True:
            time.sleep(60)
    metrics = {"nice": os.nice(0)}
    if deed == "allocate":
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            b"x" * (64 << 20)  # not numpy, which asks for large pages
        metrics["faults"] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    path = write_checkpoint(
        request["checkpoint_dir"],
        request["overrides"].get("version", "v1"),
        {"model.safetensors": b"w"},
        config={},
        norm={},
        contract_hash=load_contract(request["contract"]).hash,
        step=3,
        parent=request["init"],
        method=request["method"],
        metrics=metrics,
    )
    say(result={"uri": str(path), "version": path.name, "episodes": 4, "transitions": 50, "metrics": metrics})


if __name__ == "__main__":
    main()

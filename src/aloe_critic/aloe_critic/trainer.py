"""Train on folders of bags and publish a checkpoint. Library, and the child process the trainer node runs."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from aloe_core.checkpoint import latest, manifest_sha256, next_version, write_checkpoint
from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_critic import distributed
from aloe_critic.evaluation.decide import decide
from aloe_critic.evaluation.gate import load_thresholds
from aloe_critic.hyper import Hyper
from aloe_critic.job import Job, Learned, Progress
from aloe_critic.learners import hyper_of
from aloe_critic.learners import method as find_method
from aloe_critic.loop import Loop, Stopped
from aloe_critic.monitor import Monitor, find_tracker
from aloe_critic.precision import device_of
from aloe_critic.replay import Replay, ReplayStore, load_bags
from aloe_critic.replay.bags import FAILED, find_bags
from aloe_critic.run import Run
from aloe_critic.upload import open_target, push
from aloe_policy.config import FlowConfig
from aloe_policy.model import FlowPolicy
from aloe_policy.remote.connection import Lost
from aloe_policy.runtime import CRITIC_FILE, POLICY_FILE, Models, load_models
from aloe_policy.urls import shown


@dataclass(frozen=True)
class TrainRequest:
    """What to train on, from what, with what, and where the checkpoint goes."""

    bag_dirs: list[str]  # folders or fsspec URLs
    checkpoint_dir: str
    contract: str
    method: str = "aloe_takeover"
    init: str = ""  # version or directory; empty = LATEST if there is one (bc: from scratch)
    overrides: dict[str, Any] = field(default_factory=dict)
    replay_dir: str = ""  # store that keeps what was read, so that only new bags are; empty = in memory
    fresh: bool = False  # do not go on with an unfinished run of the same request
    gate: str = ""  # file of thresholds that an update must reach to be published; empty = publish whatever comes
    held_out: list[str] = field(default_factory=list)  # folders of bags that the gate judges by; never trained on
    publish: str = ""  # URL that robots fetch checkpoints from; empty = only `checkpoint_dir`
    server: str = ""  # policy server, ws://host:port, whose policy is improved in place of one in `checkpoint_dir`
    server_mapping: str = ""  # its names and layout (YAML); empty for those of this suite
    server_timeout: float = 600.0  # s, of one request to it
    tracker: str = ""  # wandb or trackio, beside TensorBoard; empty = what ALOE_TRACKER in the environment says


@dataclass(frozen=True)
class TrainResult:
    """What was published."""

    uri: str
    version: str
    sha256: str
    episodes: int
    transitions: int
    set_aside: dict[str, str]  # bag -> why it was not used
    failed_takes: int  # of which so many because the take failed its quality check
    notes: list[str]  # what else is worth knowing, a sentence each
    metrics: dict[str, object]
    wall_s: float


def train(request: TrainRequest, progress: Progress = lambda *_: None) -> TrainResult:
    """Run one iteration of `request.method`; AloeError for bad input, and then no checkpoint is written.

    A run that was stopped or killed is gone on with when it is asked for again, bit for bit on a CPU, from the bags it
    began with. Under torchrun every process calls this, and the first one publishes.
    """
    if request.server:
        from aloe_critic.remote.train import train_on_server

        return train_on_server(request, progress)
    start = time.monotonic()
    learn = find_method(request.method)
    contract = load_contract(request.contract)
    hyper = hyper_of(request.method, request.overrides, contract)
    device_of(hyper)
    root = Path(request.checkpoint_dir)
    check_writable(root)
    _check_gate(request)
    if request.publish:
        open_target(request.publish)
    find_tracker(request.tracker)
    seed_everything(hyper)
    with distributed.group(hyper.device):
        init = find_init(request, contract, root)
        parent = init.version if init else ""
        run = open_run(request, root, hyper, contract, parent)
        buckets = init.policy.config.text_buckets if init else FlowConfig.for_contract(contract).text_buckets
        replay = Replay(contract, hyper.stride, buckets)
        resumes = run.resumes
        try:
            # The first process makes the store and brings it up to date; the others find it so.
            with distributed.chief_first() if request.replay_dir else nullcontext():
                store = ReplayStore(request.replay_dir, contract) if request.replay_dir else None
                set_aside = load_bags(replay, request.bag_dirs, contract, progress, store, run.bags, hyper.failed_takes)
        except AloeError:
            if distributed.is_chief() and not resumes:
                run.abandon()
            raise
        with monitoring(run, request.tracker) as monitor:
            job = Job(
                contract, replay, hyper, progress, loop=Loop(progress, run.path, monitor, parallel=hyper.parallel)
            )
            if init:
                job.start_from(init)
            with job.loop.signals(), ending(run):
                learned = learn(job).cpu()
            learned.metrics |= {"episodes": len(replay.episodes), "human_share": replay.human_share()}
            if monitor is not None:
                monitor.figures(learned.metrics, int(run.path.name[1:5]))
        path = root / run.path.name
        if distributed.is_chief():
            with ending(run):
                _pass_gate(request, contract, hyper, learned, run, init.directory if init else None)
            path = publish(root, request.method, learned, hyper, contract, parent)
            run.finish()
            if request.publish:
                _push(path, request.publish)
        distributed.wait()
    return result_of(path, job, learned, set_aside, start)


def result_of(path: Path, job: Job, learned: Learned, set_aside: dict[str, str], start: float) -> TrainResult:
    """Return what became of a run that began at `start` (time.monotonic) and published `path`."""
    return TrainResult(
        uri=str(path.resolve()),
        version=path.name,
        sha256=manifest_sha256(path),
        episodes=len(job.replay.episodes),
        transitions=int(learned.metrics.get("windows") or learned.metrics.get("bc_windows") or 0),  # type: ignore[call-overload]
        set_aside=set_aside,
        failed_takes=sum(reason.startswith(FAILED.partition("{")[0]) for reason in set_aside.values()),
        notes=job.notes,
        metrics=learned.metrics,
        wall_s=time.monotonic() - start,
    )


def open_run(request: TrainRequest, root: Path, hyper: Hyper, contract: RobotContract, parent: str) -> Run:
    """Return the run's folder with the bags it learns from."""
    version = next_version(root, request.method)
    asked = {
        "hyper": hyper.model_dump(mode="json"),
        "contract": contract.hash,
        "init": parent,
        "bag_dirs": request.bag_dirs,
    }
    if distributed.is_chief():
        run = Run.open(root, version, asked, fresh=request.fresh)
        if not run.resumes:
            run.begin({bag.key: bag.signature for bag in find_bags(request.bag_dirs)})
    distributed.wait()
    return Run.open(root, version, asked)


def monitoring(run: Run, tracker: str) -> AbstractContextManager[Monitor | None]:
    if not distributed.is_chief():
        return nullcontext()
    return Monitor(run.path, run.path.name, run.asked, tracker)


def _check_gate(request: TrainRequest) -> None:
    if request.gate:
        load_thresholds(Path(request.gate))
        if not request.held_out:
            raise AloeError(f"gate = {request.gate!r}: it judges by held-out bags; name folders of them.")
        held_out = {bag.key for bag in find_bags(request.held_out)}
        if seen := [bag.name for bag in find_bags(request.bag_dirs) if bag.key in held_out]:
            raise AloeError(
                f"{seen[0]}: held out and to learn from; a gate judges by bags that no critic learned from."
            )


@contextmanager
def ending(run: Run) -> Iterator[None]:
    """A run that failed is not gone on with: asked for again it would fail again, and never see newer bags."""
    try:
        yield
    except (Stopped, Lost):
        raise
    except AloeError:
        if distributed.is_chief():
            run.finish()
        raise


def _pass_gate(
    request: TrainRequest, contract: RobotContract, hyper: Hyper, learned: Learned, run: Run, parent: Path | None
) -> None:
    """AloeError with the figure that failed if what was learned must not be published; it is kept under `.runs`."""
    if not request.gate:
        return
    thresholds = load_thresholds(Path(request.gate))
    # Loaded again: the policy that training began with has become the new one.
    previous = load_models(parent, contract) if parent else None
    new = Models(learned.policy, learned.critic, _config(learned, hyper), run.path.name, run.path)
    decision = decide(new, previous, request.held_out, contract, thresholds, failed_takes=hyper.failed_takes)
    learned.metrics |= decision.metrics
    refusals = list(decision.verdict.refusals)
    if thresholds.abstain == "refuse":
        refusals += [f"Update not judged, and abstain = 'refuse': {text}" for text in decision.verdict.abstentions]
    if refusals:
        kept = publish(
            run.path / "refused", request.method, learned, hyper, contract, previous.version if previous else ""
        )
        raise AloeError(f"{' '.join(refusals)} It is kept in {kept}.")


def find_init(request: TrainRequest, contract: RobotContract, root: Path) -> Models | None:
    """Return the networks to start from, None to start from scratch."""
    if request.init:
        for candidate in (root / request.init, Path(request.init)):
            if candidate.is_dir():
                return load_models(candidate, contract)
        raise AloeError(f"init = {request.init!r}: neither a version in {root} nor a checkpoint directory.")
    current = latest(root)
    if request.method == "bc" or current is None:
        return None
    return load_models(current, contract)


def publish(root: Path, method: str, learned: Learned, hyper: Hyper, contract: RobotContract, parent: str) -> Path:
    """Write policy and critic as the next checkpoint; LATEST then names it."""
    files = {POLICY_FILE: lambda path: _save(learned.policy, path)}
    if learned.critic is not None:
        critic = learned.critic
        files[CRITIC_FILE] = lambda path: _save(critic, path)
    policy = learned.policy
    assert isinstance(policy, FlowPolicy)
    version = next_version(root, method)
    return write_checkpoint(
        root,
        version,
        files,
        config=_config(learned, hyper),
        norm={
            "joints": contract.joint_names,
            "state_mean": policy.state_mean.tolist(),
            "state_std": policy.state_std.tolist(),
            "knot_mean": policy.knot_mean.tolist(),
            "knot_std": policy.knot_std.tolist(),
        },
        contract_hash=contract.hash,
        step=int(version[1:5]),
        parent=parent,
        method=method,
        metrics=learned.metrics,
    )


def _push(path: Path, url: str) -> None:
    try:
        push(path, url)
    except AloeError as error:
        raise AloeError(
            f"{path}: trained, but not published: {error} Try again with ./aloe checkpoint publish {path} {shown(url)}."
        ) from error


def _config(learned: Learned, hyper: Hyper) -> dict[str, object]:
    return {
        "policy": learned.policy.config.model_dump(mode="json"),
        "critic": learned.critic.config.model_dump(mode="json") if learned.critic is not None else None,
        "candidates": learned.candidates,
        "reward_scale": learned.reward_scale,
        "hyper": hyper.model_dump(mode="json"),
    }


def _save(module: torch.nn.Module, path: Path) -> None:
    save_file({name: tensor.cpu().contiguous() for name, tensor in module.state_dict().items()}, path)


def check_writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AloeError(f"{root}: checkpoints cannot be written there ({error.strerror}).") from error
    if not os.access(root, os.W_OK):
        raise AloeError(f"{root}: checkpoints cannot be written there (no permission).")


def seed_everything(hyper: Hyper) -> None:
    torch.manual_seed(hyper.seed)
    np.random.seed(hyper.seed)
    random.seed(hyper.seed)
    if hyper.threads:
        torch.set_num_threads(hyper.threads)
    if hyper.device.startswith("cuda") and hyper.precision != "float32":
        torch.set_float32_matmul_precision("high")  # TF32 where there is


def main(argv: list[str] | None = None) -> int:
    """Child process of the trainer node: reads a request file, prints one JSON object a line."""
    parser = argparse.ArgumentParser(description="Run one training request.")
    parser.add_argument("--request", required=True, help="JSON file with the fields of TrainRequest")
    options = parser.parse_args(argv)

    def report(phase: str, step: int, steps: int, loss: float) -> None:
        print(json.dumps({"phase": phase, "step": step, "steps_total": steps, "loss": loss}), flush=True)

    try:
        request = TrainRequest(**json.loads(Path(options.request).read_text()))
    except (OSError, TypeError, ValueError) as error:
        print(json.dumps({"error": f"{options.request}: not a training request ({error})."}), flush=True)
        return 2
    try:
        result = train(request, report)
    except AloeError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 2
    print(json.dumps({"result": vars(result)}, default=float), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`./aloe train --policy-server`: one iteration on a policy behind a server; the critic is fitted here."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save

from aloe_core.checkpoint import CONFIG, latest, verify_checkpoint, write_checkpoint
from aloe_core.contract import RobotContract, load_contract
from aloe_core.errors import AloeError
from aloe_critic import trainer
from aloe_critic.hyper import Hyper
from aloe_critic.job import Job, Learned, Progress, gamma_of
from aloe_critic.learners import hyper_of
from aloe_critic.learners import method as find_method
from aloe_critic.loop import Loop
from aloe_critic.remote.actor import ServerActor
from aloe_critic.remote.client import TrainingClient
from aloe_critic.replay import Replay, ReplayStore, load_bags
from aloe_policy.config import FlowConfig
from aloe_policy.critic import ChunkCritic, CriticConfig
from aloe_policy.remote.connection import Lost
from aloe_policy.remote.mapping import Mapping, default_mapping, load_mapping
from aloe_policy.runtime import CRITIC_FILE, load_weights

METHODS = ("bc", "filtered_bc", "hg_dagger", "aloe", "aloe_select", "aloe_takeover", "td1", "mc")
API_KEY = "ALOE_REMOTE_API_KEY"


def train_on_server(request: trainer.TrainRequest, progress: Progress = lambda *_: None) -> trainer.TrainResult:
    """As `trainer.train`, on the policy that `request.server` trains.

    The server saves the policy, with the critic beside it; the critic and what was found go to `checkpoint_dir`, for
    the next iteration. Lost says that the server went away; both ends go on where they were when asked again.
    """
    start = time.monotonic()
    _check(request)
    contract = load_contract(request.contract)
    hyper = hyper_of(request.method, request.overrides, contract)
    mapping = load_mapping(request.server_mapping, contract) if request.server_mapping else default_mapping(contract)
    root = Path(request.checkpoint_dir)
    trainer.check_writable(root)
    trainer.find_tracker(request.tracker)
    trainer.seed_everything(hyper)
    key = os.environ.get(API_KEY, "")
    try:
        with closing(TrainingClient(request.server, request.server_timeout, key)) as client:
            return _improve(request, contract, hyper, client, mapping, progress, start)
    except Lost as error:
        raise Lost(
            f"{error} Start it again as before and give the same command: it goes on with what is kept."
        ) from error


def _improve(
    request: trainer.TrainRequest,
    contract: RobotContract,
    hyper: Hyper,
    client: TrainingClient,
    mapping: Mapping,
    progress: Progress,
    start: float,
) -> trainer.TrainResult:
    root, training = Path(request.checkpoint_dir), client.offer.training
    directory = latest(root)
    previous = _Previous(directory, contract) if directory else None
    parent = previous.version if previous else ""
    line = f"{training.trains} of {training.base}, mapping {request.server_mapping or '-'}, critic {parent or '-'}"
    run = trainer.open_run(request, root, hyper, contract, line)
    resumes = run.resumes
    replay = Replay(contract, hyper.stride, FlowConfig.for_contract(contract).text_buckets)
    try:
        store = ReplayStore(request.replay_dir, contract) if request.replay_dir else None
        set_aside = load_bags(replay, request.bag_dirs, contract, progress, store, run.bags, hyper.failed_takes)
    except AloeError:
        if not resumes:
            run.abandon()
        raise
    with trainer.monitoring(run, request.tracker) as monitor:
        job = Job(contract, replay, hyper, progress, loop=Loop(progress, run.path, monitor))
        if previous is not None:
            job.critic, job.reward_scale = previous.critic, previous.reward_scale
            if job.critic is not None:
                job.critic.to(job.device)
            job.critic_gamma = previous.gamma
        with job.loop.signals(), trainer.ending(run):
            job.server = actor = ServerActor(job, client, mapping)
            learned = find_method(request.method)(job).cpu()
            learned.metrics |= {"episodes": len(replay.episodes), "human_share": replay.human_share()}
            if monitor is not None:
                monitor.figures(learned.metrics, int(run.path.name[1:5]))
            beside = {"relative": actor.policy.relative.tolist(), "mapping": request.server_mapping}
            version, folder = actor.save(learned, request.method, _critic(learned) | beside)
    learned.metrics |= {"policy_version": version, "policy_folder": folder}
    served = {"version": version, "folder": folder, "base": training.base, "trains": training.trains}
    path = _publish(root, run.path.name, request.method, learned, hyper, contract, parent, served)
    run.finish()
    return trainer.result_of(path, job, learned, set_aside, start)


class _Previous:
    """The critic that the last iteration left in the folder."""

    def __init__(self, directory: Path, contract: RobotContract) -> None:
        self.version = verify_checkpoint(directory, contract_hash=contract.hash).version
        path = directory / CONFIG
        config = json.loads(path.read_text())
        if "policy_server" not in config:
            raise AloeError(f"{directory}: holds a policy of its own: name another --out for one behind a server.")
        self.critic: ChunkCritic | None = None
        scale = config.get("reward_scale")
        self.reward_scale = (float(scale[0]), float(scale[1])) if scale else None
        self.gamma = gamma_of(config)
        if config.get("critic"):
            try:
                self.critic = ChunkCritic(CriticConfig.model_validate(config["critic"]))
            except ValidationError as error:
                raise AloeError(
                    f"{path}: not the configuration of a critic ({' '.join(str(error).split())})."
                ) from error
            load_weights(self.critic, directory / CRITIC_FILE)


def _check(request: trainer.TrainRequest) -> None:
    if request.method not in METHODS:
        find_method(request.method)
        raise AloeError(f"method = {request.method!r}: with a policy server expected one of {', '.join(METHODS)}.")
    for name in ("init", "gate", "publish"):
        if getattr(request, name):
            raise AloeError(
                f"{name} = {getattr(request, name)!r}: means nothing with a policy server, which has the policy."
            )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise AloeError("torchrun: a policy server is trained by one process; its policy is on the server.")


def _critic(learned: Learned) -> dict[str, Any]:
    return {
        "critic": learned.critic.config.model_dump(mode="json") if learned.critic is not None else None,
        "candidates": learned.candidates,
        "reward_scale": learned.reward_scale,
    }


def _publish(
    root: Path,
    version: str,
    method: str,
    learned: Learned,
    hyper: Hyper,
    contract: RobotContract,
    parent: str,
    served: dict[str, str],
) -> Path:
    files = {}
    if learned.critic is not None:
        files[CRITIC_FILE] = save({n: t.contiguous() for n, t in learned.critic.state_dict().items()})
    return write_checkpoint(
        root,
        version,
        files,
        config={"policy_server": served, **_critic(learned), "hyper": hyper.model_dump(mode="json")},
        norm={},
        contract_hash=contract.hash,
        step=int(version[1:5]),
        parent=parent,
        method=method,
        metrics=learned.metrics,
    )

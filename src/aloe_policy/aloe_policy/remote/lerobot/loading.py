"""A policy as LeRobot saved it, loaded by LeRobot's own code, and the proof that its weights arrived."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from safetensors import SafetensorError, safe_open

from aloe_core.checkpoint import MANIFEST, verify_checkpoint
from aloe_core.errors import AloeError
from aloe_policy.swap import MODEL_ERRORS

WEIGHTS = "model.safetensors"

# Of π0 and π0.5: openpi's files have one tensor for both, from which LeRobot fills two.
_PALIGEMMA = "model.paligemma_with_expert.paligemma."
TWINS = {f"{_PALIGEMMA}model.language_model.embed_tokens.weight": f"{_PALIGEMMA}lm_head.weight"}


@dataclass(frozen=True)
class LeRobotPolicy:
    """What it takes to turn an observation into a chunk."""

    model: Any  # lerobot.policies.pretrained.PreTrainedPolicy
    before: Any  # PolicyProcessorPipeline: observation of one robot -> batch of one, normalised
    after: Any  # PolicyProcessorPipeline: actions of the model -> in the robot's units
    directory: Path
    version: str  # type and hash of the weights; before them the name of a version that was trained here


def load(directory: Path, device: str) -> LeRobotPolicy:
    """Load a policy and its pre- and post-processors; AloeError if anything of it is missing or does not fit.

    A folder with a manifest (post-trained here) must also have the bytes that the manifest promises.
    """
    weights = directory / WEIGHTS
    made_here = verify_checkpoint(directory).version + "-" if (directory / MANIFEST).exists() else ""
    if not weights.is_file():
        raise AloeError(f"{weights}: no such file; merge an adapter into its base and save that.")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # LeRobot prints while it loads
            config = PreTrainedConfig.from_pretrained(directory)
            config.device = device
            model = get_policy_class(config.type).from_pretrained(directory, config=config, strict=True)
            override = {"device_processor": {"device": device}}
            before, after = make_pre_post_processors(
                config, str(directory), preprocessor_overrides=override, postprocessor_overrides=override
            )
        check_weights(model, weights)
    except (*MODEL_ERRORS, ImportError, SafetensorError) as error:
        text = " ".join(str(error).split())[:400]
        raise AloeError(f"{directory}: LeRobot cannot load it ({type(error).__name__}: {text}).") from error
    return LeRobotPolicy(model.eval(), before, after, directory, f"{made_here}{config.type}-{_digest(weights)}")


def check_weights(model: torch.nn.Module, file: Path) -> None:
    """AloeError unless every weight is that of `file`: LeRobot's pi0 keeps random ones where it cannot read it."""
    state = model.state_dict()
    arrived: set[int] = set()
    with safe_open(file, "pt") as saved:
        for key in saved.keys():  # noqa: SIM118  not a dict
            name = key if key in state else f"model.{key}"
            if name not in state:
                continue  # LeRobot renames a few of openpi's and judges the rest by itself (strict)
            tensor, got = saved.get_tensor(key), state[name].cpu()
            if not torch.isfinite(tensor).all():
                raise AloeError(f"{file}: {key} holds values that are not finite.")
            if got.shape != tensor.shape or not torch.equal(got, tensor.to(got.dtype)):
                raise AloeError(f"{file}: {key} did not arrive in the model: expected it to have the saved values.")
            arrived.add(state[name].data_ptr())
    for name, tensor in state.items():
        twin = state.get(TWINS.get(name, ""))
        if twin is not None and twin.data_ptr() in arrived and torch.equal(tensor, twin):
            continue
        if tensor.numel() and tensor.data_ptr() not in arrived:  # tied weights are saved once
            raise AloeError(f"{file}: has no {name}, so that it would be random: expected every weight of the model.")


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:12]

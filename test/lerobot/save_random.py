"""Saves a small policy with random weights as LeRobot does: save_random.py DIR KIND..., in LeRobot's environment.

What comes from a hub otherwise, the backbone's configuration and its tokenizer, is made here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

from aloe_policy.remote.lerobot.speed.backbone import tokenizer, write_backbone
from aloe_policy.remote.lerobot.speed.small_pi import shrink

JOINTS, HORIZON = 2, 12
INPUTS = {
    "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 64, 64)),
    "observation.images.wrist": PolicyFeature(FeatureType.VISUAL, (3, 64, 64)),
    "observation.state": PolicyFeature(FeatureType.STATE, (JOINTS,)),
}
OUTPUTS = {"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))}


def _about(mean: list[float], std: float) -> dict[str, torch.Tensor]:
    centre, spread = torch.tensor(mean), torch.full((len(mean),), std)
    return {"mean": centre, "std": spread, "q01": centre - 2 * spread, "q99": centre + 2 * spread}


# Joint positions about 0.3 rad, so that normalisation shows.
STATS = {
    **{key: {"mean": torch.full((3, 1, 1), 0.5), "std": torch.ones(3, 1, 1)} for key in list(INPUTS)[:2]},
    "observation.state": _about([0.5, -1.0], 1.0),
    "action": _about([0.3, -0.3], 0.1),
}
COMMON = {"output_features": OUTPUTS, "device": "cpu", "chunk_size": HORIZON}


def act(_: Path) -> dict:
    return {
        "n_action_steps": HORIZON,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "n_decoder_layers": 1,
        "latent_dim": 4,
        "n_vae_encoder_layers": 1,
        "pretrained_backbone_weights": None,
    }


def smolvla(folder: Path) -> dict:
    return {
        "n_action_steps": HORIZON,
        "vlm_model_name": str(write_backbone(folder / "backbone", small=True)),
        "load_vlm_weights": False,
        "num_vlm_layers": 2,
        "resize_imgs_with_padding": (64, 64),
        "num_steps": 2,
        "max_state_dim": 8,
        "max_action_dim": 8,
    }


def pi0(_: Path) -> dict:
    shrink()
    _into_the_hubs_cache("google/paligemma-3b-pt-224")
    return {
        "n_action_steps": HORIZON,
        "image_resolution": (28, 28),
        "num_inference_steps": 3,
        "max_state_dim": 8,
        "max_action_dim": 8,
        "tokenizer_max_length": 64,
    }


def pi05(folder: Path) -> dict:
    return pi0(folder) | {"tokenizer_max_length": 80}


def _into_the_hubs_cache(name: str) -> None:
    """Put a tokenizer where LeRobot's preprocessor finds `name` without a network."""
    from transformers import PaliGemmaConfig

    folder = Path(os.environ["HF_HUB_CACHE"]) / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("made_here")
    for part in (PaliGemmaConfig(), tokenizer()):
        part.save_pretrained(folder / "snapshots" / "made_here")


KINDS = {"act": act, "smolvla": smolvla, "pi0": pi0, "pi05": pi05}
VARIANTS = {
    "relative": {"use_relative_actions": True},
    "bfloat16": {"dtype": "bfloat16"},
    "framed": {"add_image_special_tokens": True, "prefix_length": 40},  # longer than all that is seen
    "third": {"empty_cameras": 1},  # that is not there
}


def save(name: str, folder: Path) -> None:
    """`name`: a kind, or kind_variant."""
    folder.mkdir()
    torch.manual_seed(0)
    kind, _, variant = name.partition("_")
    given = COMMON | {"input_features": dict(INPUTS)} | KINDS[kind](folder) | VARIANTS.get(variant, {})
    config = make_policy_config(kind, **given)
    policy = get_policy_class(kind)(config)
    if kind in ("pi0", "pi05"):
        _enliven(policy)
    before, after = make_pre_post_processors(config, dataset_stats=STATS)
    for part in (policy, before, after):
        part.save_pretrained(folder)


@torch.no_grad()
def _enliven(policy: torch.nn.Module) -> None:
    """Random weights so large that what is seen shows in what is done, in norms too, which begin at 0."""
    for weight in policy.parameters():
        weight.normal_(0, weight.shape[1:].numel() ** -0.5 if weight.ndim > 1 else 0.1)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        save(name, Path(sys.argv[1]) / name)

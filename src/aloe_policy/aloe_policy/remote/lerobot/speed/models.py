"""SmolVLA, π0 and π0.5 with random weights on a device, and an observation for them: 3 cameras, 48 words, 50 rows."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config

from aloe_policy.remote.lerobot.speed.backbone import write_backbone
from aloe_policy.remote.lerobot.speed.small_pi import shrink

MODELS = ("smolvla", "pi0", "pi05")
CAMERAS, SIDE, WORDS, ROWS, STEPS, JOINTS, PADDED = 3, 224, 48, 50, 10, 14, 32
VOCABULARY = 200  # words that the small ones have, too


def build(kind: str, device: str, *, small: bool) -> Any:
    """Return LeRobot's policy with random weights, in bfloat16 as LeRobot runs it: SmolVLA's VLM and expert, all of π
    but vision and norms. `small`: a quarter of a million weights, float32.
    """
    if small:
        shrink()
    features = {f"observation.images.{i}": PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE)) for i in range(CAMERAS)}
    given: dict[str, Any] = {
        "input_features": features | {"observation.state": PolicyFeature(FeatureType.STATE, (JOINTS,))},
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))},
        "device": "cpu",
        "chunk_size": ROWS,
        "n_action_steps": ROWS,
        "tokenizer_max_length": WORDS,
    }
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        if kind == "smolvla":
            given |= {"vlm_model_name": str(write_backbone(Path(folder), small=small)), "num_steps": STEPS}
            given |= {"resize_imgs_with_padding": (64, 64), "num_vlm_layers": 2} if small else {}
        else:
            given |= {"num_inference_steps": STEPS, "dtype": "float32" if small else "bfloat16"}
            given |= {"image_resolution": (28, 28)} if small else {}
        config = make_policy_config(kind, **given)
        config.device = device
        with torch.device(device):
            policy = get_policy_class(kind)(config).to(device).eval()
    if kind == "smolvla" and not small:
        policy.model.vlm_with_expert.to(torch.bfloat16)  # as LeRobot loads its weights from the hub
    with torch.no_grad():
        for weight in policy.parameters():
            if weight.ndim > 1:  # what is seen shows in what is done
                weight.normal_(0, weight.shape[1:].numel() ** -0.5)
    return policy


def observation(device: str, seed: int) -> dict[str, Any]:
    """Return a batch of one as LeRobot's preprocessor leaves it on the device; the last eight words are padding."""
    generator = torch.Generator().manual_seed(seed)
    said = torch.arange(WORDS)[None] < WORDS - 8
    batch = {f"observation.images.{i}": torch.rand(1, 3, SIDE, SIDE, generator=generator) for i in range(CAMERAS)}
    batch["observation.state"] = torch.randn(1, JOINTS, generator=generator)
    batch["observation.language.tokens"] = torch.randint(1, VOCABULARY, (1, WORDS), generator=generator) * said
    batch["observation.language.attention_mask"] = said
    return {key: value.to(device) for key, value in batch.items()}


def noise(n: int, device: str, seed: int) -> torch.Tensor:
    """Return noise [n, H, padded actions]."""
    return torch.randn(n, ROWS, PADDED, generator=torch.Generator().manual_seed(seed)).to(device)

"""What ALOE needs of LeRobot's SmolVLA: features of its frozen VLM, its loss per sample, which weights may move."""

from __future__ import annotations

from typing import Any

import torch
from lerobot.policies.smolvla.modeling_smolvla import make_att_2d_masks
from torch import Tensor

# The action expert and its projections. The projection of the state is part of the prefix, and stands still with it.
EXPERT = ("model.vlm_with_expert.lm_expert.", "model.action_")
ADAPTED = (
    r"model\.(vlm_with_expert\.lm_expert\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
    r"|action_(in|out)_proj|action_time_mlp_(in|out))"
)
LOSS = "flow matching"

_TOKENS, _MASK = "observation.language.tokens", "observation.language.attention_mask"


def pooled(model: Any, batch: dict[str, Any]) -> Tensor:
    """Return the VLM's output over the prefix [B, Z]: the mean over the tokens of each camera, and over the words.

    Neither attends to the state's token, nor to the expert's.
    """
    images, masks = model.prepare_images(batch)
    words, said = batch[_TOKENS], batch[_MASK]
    net = model.model
    prefix, padding, causal = net.embed_prefix(images, masks, words, said, state=model.prepare_state(batch))
    (output, _), _ = net.vlm_with_expert.forward(
        attention_mask=make_att_2d_masks(padding, causal),
        position_ids=padding.cumsum(1) - 1,
        past_key_values=None,
        inputs_embeds=[prefix, None],
        use_cache=True,  # without, its layers expect the expert's tokens as well
    )
    output = output.float()
    # Images, words, the state's token; then padding, if the configuration asks for a fixed length.
    state_at = int(padding[0].nonzero()[-1])
    first_word = state_at - words.shape[1]
    cameras = output[:, :first_word].chunk(len(images), dim=1)
    present = sum(key in batch for key in model.config.image_features)  # the rest is filled with black
    text = (output[:, first_word:state_at] * said[..., None]).sum(1) / said.sum(1, keepdim=True).clamp_min(1)
    return torch.cat([*(camera.mean(1) for camera in cameras[:present]), text], 1)


def losses(model: Any, batch: dict[str, Any]) -> Tensor:
    """Return LeRobot's flow-matching error of each chunk over its valid steps, [B]; noise and time are torch's."""
    each, _ = model.forward(batch, reduction="none")
    return each

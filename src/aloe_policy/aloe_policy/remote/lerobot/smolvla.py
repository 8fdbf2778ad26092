"""What ALOE needs of LeRobot's SmolVLA: features of its frozen VLM, its loss per sample, which weights may move."""

from __future__ import annotations

from typing import Any

from lerobot.policies.common.vla_utils import make_att_2d_masks
from torch import Tensor

from aloe_policy.remote.lerobot import flow
from aloe_policy.remote.lerobot.flow import pooled

# The action expert and its projections. The projection of the state is part of the prefix, and stands still with it.
EXPERT = ("model.vlm_with_expert.lm_expert.", "model.action_")
ADAPTED = (
    r"model\.(vlm_with_expert\.lm_expert\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
    r"|action_(in|out)_proj|action_time_mlp_(in|out))"
)
LOSS = "flow matching"

__all__ = ["ADAPTED", "EXPERT", "LOSS", "encode", "losses", "pooled", "samples"]


def encode(model: Any, batch: dict[str, Any]) -> flow.Prefix:
    """Return the VLM's view of observations; neither cameras nor words attend to the state's token behind them."""
    images, masks = model.prepare_images(batch)
    words, said = batch[flow.TOKENS], batch[flow.MASK]
    net = model.model
    prefix, there, causal = net.embed_prefix(images, masks, words, said, state=model.prepare_state(batch))
    (output, _), cache = net.vlm_with_expert.forward(
        attention_mask=make_att_2d_masks(there, causal),
        position_ids=there.cumsum(1) - 1,
        past_key_values=None,
        inputs_embeds=[prefix, None],
        use_cache=True,  # without, its layers expect the expert's tokens as well
    )
    return flow.Prefix(output, there, cache, len(images), _words_at(net, images, prefix.shape[1], words.shape[1]))


def _words_at(net: Any, images: list[Tensor], length: int, words: int) -> int:
    """Return where the words begin: behind them is the state's token, and padding if a fixed length is asked for."""
    if net.prefix_length <= 0:
        return length - 1 - words
    vision = net.vlm_with_expert.config
    patches = (images[0].shape[-2] // vision.vision_config.patch_size) * (
        images[0].shape[-1] // vision.vision_config.patch_size
    )
    return len(images) * (patches // vision.scale_factor**2 + 3 * net.add_image_special_tokens)


def samples(model: Any, prefix: flow.Prefix, _batch: dict[str, Any], n: int) -> Tensor:
    return flow.integrated(model, prefix, n, model.config.num_steps)


def losses(model: Any, batch: dict[str, Any]) -> Tensor:
    """Return LeRobot's flow-matching error of each chunk over its valid steps, [B]; noise and time are torch's."""
    each, _ = model.forward(batch, reduction="none")
    return each

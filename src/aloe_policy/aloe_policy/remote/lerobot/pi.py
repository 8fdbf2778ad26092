"""What ALOE needs of LeRobot's π0 and π0.5: features of their frozen VLM, their loss, which weights may move.

π0 gives its expert the state as a token; π0.5 has it in its prompt, and the time of the flow in the expert's norms.
"""

from __future__ import annotations

from typing import Any

from lerobot.policies.common.vla_utils import make_att_2d_masks, prepare_attention_masks_4d
from torch import Tensor

from aloe_policy.remote.lerobot import flow
from aloe_policy.remote.lerobot.flow import pooled

# The action expert without its output over words, which nothing uses; projections of actions, time and π0's state.
EXPERT = ("model.paligemma_with_expert.gemma_expert.model.", "model.action_", "model.time_mlp_", "model.state_proj.")
ADAPTED = (
    r"model\.(paligemma_with_expert\.gemma_expert\.model\.(layers\.\d+\.(self_attn|mlp)\.\w+_proj"
    r"|(layers\.\d+\.\w+_layernorm|norm)\.dense)|state_proj|action_(in|out)_proj|(action_)?time_mlp_(in|out))"
)
LOSS = "flow matching"

__all__ = ["ADAPTED", "EXPERT", "LOSS", "encode", "losses", "pooled", "samples"]


def encode(model: Any, batch: dict[str, Any]) -> flow.Prefix:
    """Return the VLM's view of observations: cameras and words attend to each other, and to nothing of the expert's."""
    images, masks = model._preprocess_images(batch)  # the only way to them
    words, said = batch[flow.TOKENS], batch[flow.MASK]
    net = model.model
    both = net.paligemma_with_expert
    prefix, there, causal = net.embed_prefix(images, masks, words, said)
    both.paligemma.model.language_model.config._attn_implementation = "eager"  # as LeRobot sets it before it samples
    (output, _), cache = both.forward(
        attention_mask=prepare_attention_masks_4d(make_att_2d_masks(there, causal)),
        position_ids=there.cumsum(1) - 1,
        past_key_values=None,
        inputs_embeds=[prefix, None],
        use_cache=True,
    )
    return flow.Prefix(output, there, cache, len(images), there.shape[1] - words.shape[1])


def samples(model: Any, prefix: flow.Prefix, batch: dict[str, Any], n: int) -> Tensor:
    return flow.integrated(model, prefix, n, model.config.num_inference_steps, **_state(model, batch))


def losses(model: Any, batch: dict[str, Any]) -> Tensor:
    """Return the flow-matching error of each chunk over its valid steps, [B]; noise and time are torch's.

    The mean of it is what LeRobot's forward returns if all chunks are whole. That counts the steps past a chunk's end
    too; here they are held at its last action, as LeRobot pads its data, because the valid steps attend to them.
    """
    actions, valid = batch["action"], ~batch["action_is_pad"]
    rows = valid.cumsum(1).clamp_min(1) - 1  # 0, 1, … to the last valid one, then that
    actions = model.prepare_action({"action": actions.take_along_dim(rows[..., None], 1)})
    images, masks = model._preprocess_images(batch)
    net = model.model
    noise, time = net.sample_noise(actions.shape, actions.device), net.sample_time(len(actions), actions.device)
    given = (*_state(model, batch).values(), actions, noise, time)
    errors = net.forward(images, masks, batch[flow.TOKENS], batch[flow.MASK], *given)
    errors = errors[..., : batch["action"].shape[-1]].mean(-1) * valid
    return errors.sum(1) / valid.sum(1).clamp_min(1)


def _state(model: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Return what the expert takes of the state beside the prefix."""
    return {"state": model.prepare_state(batch)} if model.config.type == "pi0" else {}

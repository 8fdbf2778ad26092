"""What ALOE needs of LeRobot's ACT: features of its frozen trunk, its loss per sample, which weights may move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# The decoder acts; backbone, encoder and the VAE's encoder stand still.
EXPERT = ("model.decoder.", "model.decoder_pos_embed.", "model.action_head.")
# Linear layers that adapters may be put on; attention is left out, since torch reads its weights past an adapter.
ADAPTED = r"model\.(decoder\.layers\.\d+\.linear[12]|action_head)"
LOSS = "L1"  # of its one chunk; ACT has no flow


def encode(model: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the encoder's memory [B, S, D] and the one chunk that comes of it [B, H, A]."""
    memory: list[Tensor] = []
    hook = model.model.encoder.register_forward_hook(lambda _module, _inputs, output: memory.append(output))
    try:
        chunk = model.predict_action_chunk(batch)
    finally:
        hook.remove()
    return memory[0].transpose(0, 1), chunk


def pooled(model: Any, encoding: tuple[Tensor, Tensor], _batch: dict[str, Any]) -> Tensor:
    """Return the encoder's first tokens as they are, and the mean over the tokens of each camera, [B, Z]."""
    tokens, config = encoding[0], model.config
    first = 1 + bool(config.robot_state_feature) + bool(config.env_state_feature)  # the latent, then the states
    cameras = tokens[:, first:].chunk(len(config.image_features), dim=1) if config.image_features else ()
    return torch.cat([tokens[:, :first].flatten(1), *(camera.mean(1) for camera in cameras)], 1)


def samples(_model: Any, encoding: tuple[Tensor, Tensor], _batch: dict[str, Any], n: int) -> Tensor:
    """Return its one chunk of each observation n times."""
    return encoding[1].repeat_interleave(n, 0)


def losses(model: Any, batch: dict[str, Any]) -> Tensor:
    """Return the mean absolute error of each chunk over its valid steps, [B]; in training the VAE's KL term is added.

    The mean of it is what ACTPolicy.forward returns, if all chunks have as many valid steps.
    """
    config = model.config
    if config.image_features:
        batch = batch | {"observation.images": [batch[key] for key in config.image_features]}
    predicted, (mu, log_variance) = model.model(batch)
    valid = ~batch["action_is_pad"][..., None]
    error = ((batch["action"] - predicted).abs() * valid).sum((1, 2)) / (valid.sum((1, 2)) * predicted.shape[-1])
    if mu is None:
        return error
    divergence = -0.5 * (1 + log_variance - mu.square() - log_variance.exp()).sum(-1)
    return error + config.kl_weight * divergence

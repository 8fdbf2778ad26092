"""What LeRobot's flow-matching VLAs share: a prefix of images and words, and flow steps that attend to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lerobot.policies.common.flow_matching import euler_integrate
from torch import Tensor

TOKENS, MASK = "observation.language.tokens", "observation.language.attention_mask"


@dataclass(frozen=True)
class Prefix:
    """The VLM's view of B observations: the tokens of each camera, the words, and what the type adds after them."""

    output: Tensor  # [B, S, Z] of its last layer
    there: Tensor  # [B, S] bool: false for padding and cameras that are not there
    cache: Any  # transformers.DynamicCache: keys and values of every layer
    cameras: int  # in front, with as many tokens each; some may be filled in
    words_at: int  # where the words begin


def pooled(model: Any, prefix: Prefix, batch: dict[str, Any]) -> Tensor:
    """Return the mean over the tokens of each camera that there is, and over the words, [B, Z]."""
    output, said = prefix.output.float(), batch[MASK]
    cameras = output[:, : prefix.words_at].chunk(prefix.cameras, dim=1)
    present = sum(key in batch for key in model.config.image_features)  # LeRobot puts what it fills in behind them
    words = output[:, prefix.words_at : prefix.words_at + said.shape[1]] * said[..., None]
    return torch.cat(
        [*(camera.mean(1) for camera in cameras[:present]), words.sum(1) / said.sum(1, True).clamp_min(1)], 1
    )


def integrated(model: Any, prefix: Prefix, n: int, steps: int, **given: Tensor) -> Tensor:
    """Return n chunks for each observation of a prefix [B * n, H, A], as LeRobot's sample_actions integrates one.

    `given`: what each flow step takes besides, [B, ...]. The cache is used up.
    """
    net, config = model.model, model.config
    there = prefix.there.repeat_interleave(n, 0)
    given = {key: value.repeat_interleave(n, 0) for key, value in given.items()}
    prefix.cache.batch_repeat_interleave(n)
    noise = net.sample_noise((len(there), config.chunk_size, config.max_action_dim), there.device)

    def velocity(chunks: Tensor, time: Tensor) -> Tensor:
        return net.denoise_step(
            prefix_pad_masks=there, past_key_values=prefix.cache, x_t=chunks, timestep=time, **given
        )

    return euler_integrate(velocity, noise, steps)[..., : config.action_feature.shape[0]]

"""A SigLIP, as π's PaliGemma and SmolVLA's SmolVLM have it: all cameras of an observation at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aloe_policy.remote.lerobot.fast.blocks import ACTIVATIONS, Heads, VisionLayer, vision_layer
from aloe_policy.remote.lerobot.fast.weights import UnsupportedError, stacked_with_bias


class VisionTower:
    """Images [C, 3, h, w] in -1 to 1 -> patches [C, P, W], P = (h // p) (w // p)."""

    def __init__(self, tower: Any, size: tuple[int, int], dtype: torch.dtype, compiled: Callable[..., Any]) -> None:
        """`tower`: a transformers SiglipVisionTransformer or SmolVLMVisionTransformer; `size`: h, w of images."""
        patches = tower.embeddings.patch_embedding
        self._patch, self._dtype = patches.kernel_size[0], dtype
        self._rows, self._columns = size[0] // self._patch, size[1] // self._patch
        self._embed = patches.weight.detach().flatten(1).to(dtype).contiguous(), patches.bias.detach().to(dtype)
        self._positions = _positions(tower, size).to(dtype)
        self.patches = self._rows * self._columns  # of an image
        layers = tower.encoder.layers
        attention = layers[0].self_attn
        activation = layers[0].mlp.config.hidden_act
        if activation not in ACTIVATIONS:
            raise UnsupportedError(f"a vision tower with {activation}")
        self.heads = Heads(
            attention.num_heads, attention.num_heads, attention.head_dim, attention.scale,
            layers[0].layer_norm1.eps, activation,
        )  # fmt: skip
        self.layers = [
            VisionLayer(
                _affine(each.layer_norm1, dtype),
                stacked_with_bias(dtype, each.self_attn.q_proj, each.self_attn.k_proj, each.self_attn.v_proj),
                stacked_with_bias(dtype, each.self_attn.out_proj),
                _affine(each.layer_norm2, dtype),
                stacked_with_bias(dtype, each.mlp.fc1),
                stacked_with_bias(dtype, each.mlp.fc2),
            )
            for each in layers
        ]
        self._last, self._eps = _affine(tower.post_layernorm, dtype), tower.post_layernorm.eps
        self._layer = compiled(vision_layer)

    def __call__(self, images: Tensor) -> Tensor:
        side, rows, columns = self._patch, self._rows, self._columns
        cut = images[..., : rows * side, : columns * side].to(self._dtype)
        patches = cut.reshape(len(images), 3, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
        x = F.linear(patches.reshape(len(images), rows * columns, -1), *self._embed) + self._positions
        for each in self.layers:
            x = self._layer(x, each, self.heads)
        return F.layer_norm(x, x.shape[-1:], *self._last, self._eps)


def _affine(norm: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)


@torch.no_grad()
def _positions(tower: Any, size: tuple[int, int]) -> Tensor:
    """Return what the tower adds to the patches of an image of this size [P, W], by letting it do so once."""
    found: list[Tensor] = []
    placed = tower.embeddings.position_embedding
    hook = placed.register_forward_hook(lambda _module, _given, out: found.append(out))
    try:
        tower(torch.zeros(1, 3, *size, dtype=placed.weight.dtype, device=placed.weight.device))
    finally:
        hook.remove()
    return found[0].reshape(-1, found[0].shape[-1])

"""The layers of which these VLAs are made, as functions of tensors, so that one compilation serves every layer.

Shapes: n chunks, T tokens that ask, S that are asked, Hq heads of queries, Hkv of keys, D a head's width, W the
model's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

HIDDEN = -1e30  # added to the score of what may not be seen; finite, so that a row of nothing else is no NaN

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "silu": F.silu,
}


class Heads(NamedTuple):
    """Constants of a stack of layers."""

    queries: int
    keys: int
    width: int
    scale: float  # of scores
    eps: float  # of norms
    activation: str


class Norm(NamedTuple):
    """Root-mean-square norm: x / rms(x) * scale + shift; what follows it is multiplied by the gate before it is added.

    float32 [W]; shift and gate only where the time of the flow is in the norms (π0.5).
    """

    scale: Tensor
    shift: Tensor | None = None
    gate: Tensor | None = None


class Layer(NamedTuple):
    """Weights of a gated Transformer layer [out, in]; the norms stand apart, since they may change with each step."""

    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


class VisionLayer(NamedTuple):
    """Weights and biases of a layer of the vision tower."""

    norm1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]


def normed(x: Tensor, norm: Norm, eps: float) -> Tensor:
    wide = x.float()
    y = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * norm.scale
    return (y if norm.shift is None else y + norm.shift).to(x.dtype)


def added(x: Tensor, y: Tensor, gate: Tensor | None) -> Tensor:
    return x + y if gate is None else x + y * gate.to(y.dtype)


def hidden(there: Tensor) -> Tensor:
    """Return what is added to scores of tokens [S] of which only these may be seen, float32."""
    return torch.zeros(there.shape, device=there.device).masked_fill(~there, HIDDEN)


def rotations(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine [T, D / 2] of rotary positions [T]."""
    angles = positions.float()[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [n, T, H, D] turned by its positions; halves are paired."""
    a, b = x.float().chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def attended(q: Tensor, keys: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Return what queries [n, T, Hq, D] read from keys and values [2, b, Hkv, S, D], b of 1 or n: [n, T, Hq * D].

    `bias` [T or 1, S] is added to scores. With one row of keys for all chunks, these are rows of one product; with one
    head of keys, the heads of a token's queries are, and nothing is moved in memory.
    """
    n, tokens, heads, width = q.shape
    _, rows, key_heads, seen, _ = keys.shape
    k, v = keys.reshape(2, rows * key_heads, seen, width)
    grouped = q.view(rows, n // rows, tokens, key_heads, heads // key_heads, width).permute(0, 3, 1, 2, 4, 5)
    scores = torch.bmm(grouped.reshape(rows * key_heads, -1, width), k.transpose(1, 2))
    scores = scores.view(rows * key_heads, -1, tokens, heads // key_heads, seen).float() * scale
    weights = (scores + bias[:, None]).softmax(-1).to(v.dtype)
    read = torch.bmm(weights.view(rows * key_heads, -1, seen), v)
    read = read.view(rows, key_heads, n // rows, tokens, heads // key_heads, width).permute(0, 2, 3, 1, 4, 5)
    return read.reshape(n, tokens, heads * width)


def projected(x: Tensor, qkv: Tensor, heads: Heads, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries [n, T, Hq, D], and keys and values [n, Hkv, T, D], turned."""
    y = F.linear(x, qkv).view(*x.shape[:2], heads.queries + 2 * heads.keys, heads.width)
    q, k, v = y.split([heads.queries, heads.keys, heads.keys], 2)
    return rotated(q, cos, sin), rotated(k, cos, sin).transpose(1, 2), v.transpose(1, 2)


def fed(x: Tensor, layer: Layer, norm: Norm, heads: Heads) -> Tensor:
    """Return what the gated feed-forward part makes of tokens; not yet added to them."""
    gate, up = F.linear(normed(x, norm, heads.eps), layer.gate_up).chunk(2, -1)
    return F.linear(ACTIVATIONS[heads.activation](gate) * up, layer.down)


def prefix_layer(
    x: Tensor, layer: Layer, norms: tuple[Norm, Norm], heads: Heads, cos: Tensor, sin: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the tokens of what is seen [1, S, W] after a layer, and its keys and values [2, 1, Hkv, S, D]."""
    q, k, v = projected(normed(x, norms[0], heads.eps), layer.qkv, heads, cos, sin)
    keys = torch.stack([k, v])
    x = x + F.linear(attended(q, keys, bias, heads.scale), layer.out)
    return x + fed(x, layer, norms[1], heads), keys


def prefix_keys(x: Tensor, layer: Layer, norms: tuple[Norm, Norm], heads: Heads, cos: Tensor, sin: Tensor) -> Tensor:
    """Return keys and values alone: all that a flow needs of the last layer."""
    keys = layer.qkv[heads.queries * heads.width :]
    y = F.linear(normed(x, norms[0], heads.eps), keys).view(*x.shape[:2], 2 * heads.keys, heads.width)
    k, v = y.chunk(2, 2)
    return torch.stack([rotated(k, cos, sin).transpose(1, 2), v.transpose(1, 2)])


def flow_layer(
    x: Tensor,
    late: Tensor,
    gate: Tensor | None,
    layer: Layer,
    norms: tuple[Norm, Norm],
    heads: Heads,
    cos: Tensor,
    sin: Tensor,
    bias: Tensor,
    seen: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the tokens of n chunks [n, T, W] after a layer that attends to what is `seen` and to themselves.

    `late` is what the layer before has yet to add, through its gate: one pass over memory adds it and takes the norm.
    So the result is in two parts, too.
    """
    x = added(x, late, gate)
    q, k, v = projected(normed(x, norms[0], heads.eps), layer.qkv, heads, cos, sin)
    keys = torch.cat([seen.expand(-1, len(x), -1, -1, -1), torch.stack([k, v])], 3)
    x = added(x, F.linear(attended(q, keys, bias, heads.scale), layer.out), norms[0].gate)
    return x, fed(x, layer, norms[1], heads)


def crossed_layer(
    x: Tensor,
    late: Tensor,
    gate: Tensor | None,
    layer: Layer,
    norms: tuple[Norm, Norm],
    heads: Heads,
    cos: Tensor,
    sin: Tensor,
    bias: Tensor,
    seen: Tensor,
) -> tuple[Tensor, Tensor]:
    """The same, attending to what is `seen` only; qkv holds the queries' weights alone."""
    x = added(x, late, gate)
    q = F.linear(normed(x, norms[0], heads.eps), layer.qkv).view(*x.shape[:2], heads.queries, heads.width)
    x = added(x, F.linear(attended(rotated(q, cos, sin), seen, bias, heads.scale), layer.out), norms[0].gate)
    return x, fed(x, layer, norms[1], heads)


def moved(
    chunks: Tensor,
    x: Tensor,
    late: Tensor,
    gate: Tensor | None,
    last: Norm,
    heads: Heads,
    out: tuple[Tensor, Tensor | None],
    change: float,
) -> Tensor:
    """Return chunks [n, H, A] one step on, by the velocity that their tokens [n, H, W] say; float32."""
    return chunks + change * F.linear(normed(added(x, late, gate), last, heads.eps).float(), *out)


def vision_layer(x: Tensor, layer: VisionLayer, heads: Heads) -> Tensor:
    """Return the patches of the cameras [C, P, W] after a layer of the vision tower."""
    y = F.linear(F.layer_norm(x, x.shape[-1:], *layer.norm1, heads.eps), *layer.qkv)
    q, k, v = y.view(*x.shape[:2], 3, heads.queries, heads.width).permute(2, 0, 3, 1, 4)
    read = F.scaled_dot_product_attention(q, k, v, scale=heads.scale)
    x = x + F.linear(read.transpose(1, 2).reshape(x.shape), *layer.out)
    y = F.linear(F.layer_norm(x, x.shape[-1:], *layer.norm2, heads.eps), *layer.fc1)
    return x + F.linear(ACTIVATIONS[heads.activation](y), *layer.fc2)

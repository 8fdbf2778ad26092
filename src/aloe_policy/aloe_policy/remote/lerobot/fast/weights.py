"""Weights of modules that LeRobot loaded, in the type that is computed in, those used together side by side."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aloe_policy.remote.lerobot.fast.blocks import Layer, Norm


class UnsupportedError(Exception):
    """A model that is built otherwise than what this package computes; says how."""


def stacked(dtype: torch.dtype, *linears: nn.Linear) -> Tensor:
    """Return the weights of linear layers that take the same input, as one matrix [sum of outputs, in]."""
    if any(linear.bias is not None for linear in linears):
        raise UnsupportedError("a projection with a bias")
    return torch.cat([linear.weight.detach().to(dtype) for linear in linears]).contiguous()


def stacked_with_bias(dtype: torch.dtype, *linears: nn.Linear) -> tuple[Tensor, Tensor]:
    weights = torch.cat([linear.weight.detach().to(dtype) for linear in linears])
    return weights.contiguous(), torch.cat([linear.bias.detach().to(dtype) for linear in linears])


def layer(dtype: torch.dtype, module: Any, *, queries_only: bool = False) -> Layer:
    """Return the weights of a Llama's or Gemma's layer."""
    attention, mlp = module.self_attn, module.mlp
    asked = (attention.q_proj,) if queries_only else (attention.q_proj, attention.k_proj, attention.v_proj)
    return Layer(
        stacked(dtype, *asked),
        stacked(dtype, attention.o_proj),
        stacked(dtype, mlp.gate_proj, mlp.up_proj),
        stacked(dtype, mlp.down_proj),
    )


def norm(module: nn.Module, offset: float = 0.0) -> Norm:
    """Return a norm without the time in it; a Gemma's weights are about 0: offset 1."""
    return Norm(module.weight.detach().float() + offset)


def linear(module: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a small projection as they are, float32: actions and time go through it."""
    return module.weight.detach().float(), None if module.bias is None else module.bias.detach().float()

"""Low-rank adapters (LoRA, arXiv 2106.09685) on linear layers of a model, by peft, and the model with them merged."""

from __future__ import annotations

import torch
from peft import LoraConfig
from peft.functional import cast_adapter_dtype, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

_NAME = "default"  # of the adapter; peft's


def adapt(model: nn.Module, layers: str, rank: int) -> dict[str, nn.Parameter]:
    """Put adapters of `rank` on the linear layers whose whole name fits the expression `layers`; return their weights.

    The model computes what it did: one factor of each begins at 0. They are float32 whatever their layer is, since
    bfloat16 loses small steps to rounding.
    """
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=layers, bias="none")
    inject_adapter_in_model(config, model, _NAME)
    cast_adapter_dtype(model, _NAME)
    return {name: weight for name, weight in model.named_parameters() if ".lora_" in name}


@torch.no_grad()
def merged(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of the model as if it never had adapters, their products added; the model is left alone."""
    state = {name.replace(".base_layer.", "."): t for name, t in model.state_dict().items() if ".lora_" not in name}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            weight = state[f"{name}.weight"]
            state[f"{name}.weight"] = (weight + module.get_delta_weight(_NAME)).to(weight.dtype)
    return state
